"""What a model generates, as values: text, tool calls, log-probabilities of tokens, the reason of its end, usage.

Engines yield them through `core.engine_ports.EngineClient`; `api/dialects` shapes them for the wire.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

MIN_LOG_PROB = -9999.0
"""The log-probability of a token that cannot be sampled (OpenAI API reference, `logprob`)."""


class FinishReason(StrEnum):
    """Why an answer ended: by itself or at a stop string, at its token limit, or to have functions called."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class TokenLogProb:
    """A token's text, its bytes, its log-probability in nats, and the likeliest tokens of its position, best first.

    `top` is empty if none were asked for. The text of a token that ends within a UTF-8 character is only an
    approximation of its bytes.
    """

    token: str
    bytes: Sequence[int]
    log_prob: float
    top: "Sequence[TokenLogProb]" = ()


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """The beginning of an answer's `index`-th tool call, which has an id and a name, or more of its arguments.

    `arguments` is a piece of JSON text; None in each field means nothing new.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens of a prompt and of its answers; `cached_tokens` of the prompt were not computed again."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class EngineDelta:
    """What an engine adds to an answer. `log_probs` are of the added tokens, None if none were asked for.

    `finish_reason` is None until the answer's last delta.
    """

    text: str = ""
    tool_calls: Sequence[ToolCallDelta] = ()
    log_probs: Sequence[TokenLogProb] | None = None
    finish_reason: FinishReason | None = None
