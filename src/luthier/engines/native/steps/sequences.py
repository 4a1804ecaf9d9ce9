"""One answer in progress: its tokens, its pages of the KV cache, and what it gives out. `Scheduler` moves it on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from luthier.core.inference.generation import FinishReason
from luthier.engines.native.decoder.library import PAGE
from luthier.engines.native.steps.answer_text import AnswerText, LogProbEntry, Piece
from luthier.engines.native.steps.page_cache import Key, common_length
from luthier.engines.native.steps.sampling import NOT_FINITE, NOTHING, DrawnToken, Sampler, SamplingParameters

FAULTS = {
    NOTHING: "The grammar of this answer lets no token follow, or grew beyond its bounds.",
    NOT_FINITE: "The model computed what is no number: its weights, or those of its adapter, are damaged.",
}
Emit = Callable[[dict[str, Any]], None]
"""Sends a message about one call; called on the thread that computes."""


class Vocabulary:
    """What the tokens of a model are in bytes, by id, and which of them end an answer."""

    def __init__(self, pieces: list[bytes], end_ids: frozenset[int], hidden_ids: frozenset[int]) -> None:
        """`hidden_ids` are control tokens: an answer's text does not show them."""
        self.pieces = pieces
        self.end_ids = end_ids
        self.hidden_ids = hidden_ids

    def entry(self, drawn: DrawnToken) -> LogProbEntry:
        """A drawn token with its bytes and those of the likeliest tokens in its place."""
        top = [(id, self.pieces[id], log_prob) for id, log_prob in drawn.top]
        return drawn.id, self.pieces[drawn.id], drawn.log_prob, top


@dataclass(slots=True)
class Sequence:
    """A prompt and the answer to it. `adapter` is the decoder's, `scope` names who may share its prompt's cache.

    `tokens` has room for prompt and answer, `n_tokens` are there and `n_computed` of them in the KV cache, `n_cached`
    without computing. A sequence without parameters has no answer: log-probabilities of its own tokens are wanted,
    behind each of the last `n_scored_rows`, with the `n_scored` likeliest tokens in their places.
    """

    call: int
    emit: Emit
    tokens: "np.ndarray[Any, np.dtype[np.int32]]"
    n_prompt: int
    adapter: int
    model: str | None
    scope: str
    sampler: Sampler | None
    parameters: SamplingParameters | None
    n_scored: int = 0
    n_scored_rows: int = 0
    pages: "np.ndarray[Any, np.dtype[np.int32]]" = field(default_factory=lambda: np.empty(0, np.int32))
    root: Key = b""
    keys: list[Key] = field(default_factory=list)
    n_published: int = 0
    is_published: bool = False
    n_computed: int = 0
    n_cached: int = 0
    n_tokens: int = 0
    waited_steps: int = 0
    text: AnswerText | None = None
    is_cancelled: bool = False
    is_background: bool = False
    """Whether nobody waits for it: it rests while the prompt of any other is read."""

    @property
    def n_to_prefill(self) -> int:
        """Tokens of the prompt that are not computed yet."""
        return max(0, self.n_prompt - self.n_computed)

    @property
    def n_pages_needed(self) -> int:
        """Pages of the KV cache for the prompt and the longest answer that is allowed."""
        most = self.n_prompt + (0 if self.parameters is None else self.parameters.max_tokens)
        return -(-most // PAGE)

    def n_logits(self, n: int) -> int:
        """For how many of the `n` tokens that were computed last, counted from the end, logits are wanted.

        Of an answer's sequence only the last token's, once the prompt is whole; else those of the scored rows.
        """
        if self.parameters is not None:
            return int(self.n_computed >= self.n_prompt)
        return max(0, min(n, self.n_computed - (self.n_prompt - self.n_scored_rows)))

    @property
    def n_shareable(self) -> int:
        """How much of the prompt may come from others' pages: logits are wanted of all behind it, one at least."""
        return self.n_prompt - max(1, self.n_scored_rows)

    def parent_key(self, place: int) -> Key:
        """The key of all tokens before a page of the prompt."""
        return self.keys[place - 1] if place else self.root

    def computes_soon(self, n: int, other: "Sequence", least: int) -> bool:
        """Whether its next `n` tokens are what `other` needs next, `least` of them or more within a page."""
        place, rest = divmod(other.n_computed, PAGE)
        if rest or self.root != other.root:
            return False
        end = min(self.n_computed + n, other.n_shareable, (place + 1) * PAGE)
        n_common = common_length(self.tokens[:end], other.tokens[:end])
        return n_common - max(self.n_computed, other.n_computed) >= least

    def take(self, drawn: DrawnToken, vocabulary: Vocabulary) -> bool:
        """Adds a drawn token to the answer and emits the text that is certain now; returns whether the answer ends.

        A drawn fault (an id below 0) is emitted as an error and ends it.
        """
        assert self.parameters is not None
        assert self.sampler is not None
        assert self.text is not None
        if drawn.id < 0:
            self.emit({"error": "engine_failed", "message": FAULTS[drawn.id]})
            return True
        n_answer = self.n_tokens - self.n_prompt + 1
        wants_log_probs = self.parameters.top_log_probs is not None
        if drawn.id in vocabulary.end_ids:
            self._finish(FinishReason.STOP, n_answer, [vocabulary.entry(drawn)] if wants_log_probs else [])
            return True
        self.tokens[self.n_tokens] = drawn.id
        self.n_tokens += 1
        data = b"" if drawn.id in vocabulary.hidden_ids else vocabulary.pieces[drawn.id]
        piece = self.text.feed(data, vocabulary.entry(drawn) if wants_log_probs else None)
        if piece.is_stopped or self.sampler.is_at_end:
            self._give(piece)
            self._finish(FinishReason.STOP, n_answer, is_cut=piece.is_stopped)
            return True
        if n_answer >= self.parameters.max_tokens:
            self._give(piece)
            self._finish(FinishReason.LENGTH, n_answer)
            return True
        self._give(piece)
        return False

    def _give(self, piece: Piece) -> None:
        """Emits a piece, unless it is empty."""
        if piece.text or piece.log_probs:
            self.emit({"text": piece.text, "log_probs": piece.log_probs})

    def _finish(
        self, reason: FinishReason, n_answer: int, entries: list[LogProbEntry] | None = None, is_cut: bool = False
    ) -> None:
        """Emits the last message: the rest, with `entries` behind it, the reason and the usage in tokens.

        `is_cut`: a stop string has cut the rest off.
        """
        assert self.text is not None
        rest = Piece() if is_cut else self.text.finish()
        is_stopped = is_cut or rest.is_stopped
        self.emit(
            {
                "text": rest.text,
                "log_probs": [*rest.log_probs, *(entries or ())],
                "finish": (FinishReason.STOP if is_stopped else reason).value,
                "usage": [self.n_prompt, n_answer, self.n_cached],
            }
        )
