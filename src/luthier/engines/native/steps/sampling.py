"""How the tokens of an answer are drawn: the parameters of a request as the decoder's sampler takes them."""

import hashlib
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import llguidance
import llguidance.numpy
import numpy as np

from luthier.engines.native.decoder.library import Draw

_GRAMMAR_LIMITS = llguidance.LLParserLimits(max_lexer_states=30_000)


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """What a request says of how its answer is drawn. Temperature 0 takes the likeliest token.

    `top_log_probs` is None if no log-probabilities are wanted, `grammar` (llguidance's) if the answer is free, and
    `seed` if each answer may be another.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None
    stops: tuple[str, ...] = ()
    top_log_probs: int | None = None
    grammar: str | None = None

    @classmethod
    def of_request(cls, request: Mapping[str, Any]) -> "SamplingParameters":
        """From the fields of an OpenAI-compatible completion request, of which the service has checked the ranges.

        `logprobs` is the number of likeliest tokens. Raises KeyError without `max_tokens`.
        """
        stop = request.get("stop") or ()
        return cls(
            max_tokens=int(request["max_tokens"]),
            temperature=float(request.get("temperature", 1.0)),
            top_p=float(request.get("top_p", 1.0)),
            frequency_penalty=float(request.get("frequency_penalty") or 0.0),
            presence_penalty=float(request.get("presence_penalty") or 0.0),
            logit_bias={int(id): float(bias) for id, bias in (request.get("logit_bias") or {}).items()},
            seed=request.get("seed"),
            stops=(stop,) if isinstance(stop, str) else tuple(stop),
            top_log_probs=request.get("logprobs"),
            grammar=request.get("grammar"),
        )


@dataclass(frozen=True, slots=True)
class DrawnToken:
    """A token, its log-probability in nats by the model alone, and the likeliest tokens in its place with theirs.

    The id is NOTHING if none may follow, NOT_FINITE if the model computed what is no number.
    """

    id: int
    log_prob: float
    top: list[tuple[int, float]]


NOTHING, NOT_FINITE = -1, -2


class Sampler:
    """Draws the tokens of one answer: keeps its counts for penalties and its place in the grammar.

    The same seed gives the same tokens, whatever else the engine computes.
    """

    def __init__(
        self,
        parameters: SamplingParameters,
        tokenizer: llguidance.LLTokenizer,
        n_vocabulary: int,
        end_ids: frozenset[int] = frozenset(),
    ) -> None:
        """`end_ids` may each end the answer where the grammar lets it end.

        Raises ValueError for a grammar that is none.
        """
        self._parameters = parameters
        self._seed = secrets.randbits(64) if parameters.seed is None else parameters.seed
        self._seen: Counter[int] = Counter()
        self._n_drawn = 0
        biases = parameters.logit_bias
        self._bias_tokens = np.fromiter(biases.keys(), np.int32, len(biases))
        self._bias_values = np.fromiter(biases.values(), np.float32, len(biases))
        n_top = parameters.top_log_probs or 0
        self._top_tokens, self._top_log_probs = np.full(n_top, -1, np.int32), np.empty(n_top, np.float32)
        self._end_ids = end_ids
        self._grammar_end = tokenizer.eos_token
        self._matcher: llguidance.LLMatcher | None = None
        self._mask = np.empty(0, np.int32)
        if parameters.grammar is not None:
            self._matcher = llguidance.LLMatcher(tokenizer, parameters.grammar, log_level=0, limits=_GRAMMAR_LIMITS)
            if self._matcher.is_error():
                raise ValueError("the grammar cannot be used")
            self._mask = llguidance.numpy.allocate_token_bitmask(1, max(n_vocabulary, tokenizer.vocab_size))

    def draw(self, logits: Any) -> Draw:
        """What the decoder needs to draw the next token from `logits`, a float32 row of at least the vocabulary.

        It holds the addresses of `logits` and of arrays of this sampler, which must live until the decoder has drawn.
        """
        parameters = self._parameters
        draw = Draw(logits=logits.ctypes.data, temperature=parameters.temperature, top_p=parameters.top_p)
        draw.n_top = -1 if parameters.top_log_probs is None else len(self._top_tokens)
        draw.uniform = self._uniform()
        draw.bias_tokens, draw.bias_values = self._bias_tokens.ctypes.data, self._bias_values.ctypes.data
        draw.n_biases = len(self._bias_tokens)
        draw.top_tokens, draw.top_log_probs = self._top_tokens.ctypes.data, self._top_log_probs.ctypes.data
        if parameters.frequency_penalty or parameters.presence_penalty:
            n = len(self._seen)
            self._seen_tokens = np.fromiter(self._seen.keys(), np.int32, n)
            self._seen_counts = np.fromiter(self._seen.values(), np.int32, n)
            draw.seen_tokens, draw.seen_counts = self._seen_tokens.ctypes.data, self._seen_counts.ctypes.data
            draw.n_seen, draw.frequency = n, parameters.frequency_penalty
            draw.presence = parameters.presence_penalty
        if self._matcher is not None:
            self._fill_mask(self._matcher)
            draw.mask = self._mask.ctypes.data
        return draw

    def take(self, draw: Draw) -> DrawnToken:
        """The token that the decoder has drawn: counts it for the penalties and advances the grammar by it.

        Its id is NOTHING also if the grammar does not take the token or grew beyond its limits.
        """
        self._n_drawn += 1
        if self._matcher is not None and self._matcher.is_error():  # it grew beyond its limits in this answer
            return DrawnToken(NOTHING, 0.0, [])
        top = [
            (int(id), float(value)) for id, value in zip(self._top_tokens, self._top_log_probs, strict=True) if id >= 0
        ]
        drawn = DrawnToken(draw.token, draw.log_prob, top)
        if drawn.id >= 0:
            self._seen[drawn.id] += 1
            continues = self._matcher is not None and drawn.id not in self._end_ids
            if continues and self._matcher is not None and not self._matcher.consume_token(drawn.id):
                return DrawnToken(NOTHING, 0.0, [])
        return drawn

    @property
    def is_at_end(self) -> bool:
        """Whether the grammar lets nothing follow; False without a grammar."""
        return self._matcher is not None and self._matcher.is_stopped()

    def _fill_mask(self, matcher: llguidance.LLMatcher) -> None:
        """Writes the tokens that the grammar allows into the mask, a bit each.

        Where it lets an answer end, any of the model's end tokens may come: the model was taught one of them.
        """
        llguidance.numpy.fill_next_token_bitmask(matcher, self._mask)
        bits = self._mask[0]
        may_end = bits[self._grammar_end // 32] >> (self._grammar_end % 32) & 1
        for id in self._end_ids if may_end else ():
            bits[id // 32] |= np.array(1 << (id % 32), np.uint32).view(np.int32)

    def _uniform(self) -> float:
        """The next number in [0, 1): of the seed and the token's place in the answer alone."""
        source = self._seed.to_bytes(16, "little", signed=True) + self._n_drawn.to_bytes(8, "little")
        return int.from_bytes(hashlib.blake2b(source, digest_size=7).digest(), "little") / (1 << 56)
