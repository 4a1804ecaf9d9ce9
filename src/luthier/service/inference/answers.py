"""Answers as values, streamed and complete; `api` gives them their wire shapes."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from luthier.core.errors import UpstreamFailed
from luthier.core.inference.generation import FinishReason, TokenLogProb, ToolCallDelta, Usage


@dataclass(frozen=True, slots=True)
class AnswerHeader:
    """What every answer says about itself: `model` is the name of the weights that gave it.

    Another `fingerprint` means other weights or software: with the same seed it may give another answer.
    """

    id: str
    created_at: datetime
    model: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class PromptEcho:
    """A prompt that its choices repeat, its length in tokens, and the log-probabilities of its tokens.

    `next_token` has the likeliest tokens after the prompt; None if they were not asked for.
    """

    text: str = ""
    n_tokens: int = 0
    log_probs: Sequence[TokenLogProb] = ()
    next_token: TokenLogProb | None = None


NO_ECHO = PromptEcho()


@dataclass(frozen=True, slots=True)
class ChoiceDelta:
    """What one choice continues with: text, or a tool call; and its finish reason, if it ends here.

    `log_probs` are those of the text's tokens, None if they were not asked for.
    """

    index: int
    text: str | None = None
    tool_call: ToolCallDelta | None = None
    log_probs: Sequence[TokenLogProb] | None = None
    finish_reason: FinishReason | None = None
    echo: PromptEcho = NO_ECHO


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A complete call: `arguments` are JSON in a text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Choice:
    """One complete answer. `text` is None if it has none; an answer has text or tool calls."""

    text: str | None
    tool_calls: Sequence[ToolCall]
    log_probs: Sequence[TokenLogProb] | None
    finish_reason: FinishReason
    echo: PromptEcho = NO_ECHO


@dataclass(frozen=True, slots=True)
class Answer:
    """All choices of a request, in order, and their usage."""

    choices: Sequence[Choice]
    usage: Usage


AnswerPart = Sequence[ChoiceDelta] | Usage
"""What a stream of answers consists of: deltas that came at once, and last the usage."""


async def collect(stream: AsyncIterator[AnswerPart]) -> Answer:
    """The complete answer of a stream, whose choices may be interleaved.

    Raises what the stream raises, and UpstreamFailed for a choice without a finish reason.
    """
    partial_choices: dict[int, _PartialChoice] = {}
    usage = Usage(0, 0)
    async for part in stream:
        if isinstance(part, Usage):
            usage = part
            continue
        for delta in part:
            if delta.index not in partial_choices:
                partial_choices[delta.index] = _PartialChoice()
            partial_choices[delta.index].append(delta)
    return Answer([partial_choices[index].complete() for index in sorted(partial_choices)], usage)


@dataclass(slots=True)
class _PartialChoice:
    """What one choice consists of so far; None is what no delta has brought yet."""

    texts: list[str] = field(default_factory=list)
    log_probs: list[TokenLogProb] | None = None
    calls: list[ToolCallDelta] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    echo: PromptEcho = NO_ECHO

    def append(self, delta: ChoiceDelta) -> None:
        """Adds a delta of this choice."""
        if delta.text is not None:
            self.texts.append(delta.text)
        if delta.log_probs is not None:
            self.log_probs = self.log_probs or []
            self.log_probs += delta.log_probs
        if delta.tool_call is not None:
            self.calls.append(delta.tool_call)
        self.finish_reason = delta.finish_reason or self.finish_reason
        if delta.echo is not NO_ECHO:
            self.echo = delta.echo

    def complete(self) -> Choice:
        """The choice, once all its deltas are added. Raises UpstreamFailed if none had a finish reason."""
        if self.finish_reason is None:
            raise UpstreamFailed("engine_failed", "The engine ended an answer without a reason.")
        text = "".join(self.texts) if self.texts else None
        return Choice(text, tool_calls_of(self.calls), self.log_probs, self.finish_reason, self.echo)


def tool_calls_of(deltas: Iterable[ToolCallDelta]) -> list[ToolCall]:
    """The complete calls of an answer's deltas: one with an id begins a call, others continue the last one."""
    calls: list[ToolCall] = []
    for delta in deltas:
        if delta.id is not None:
            calls.append(ToolCall(delta.id, delta.name or "", delta.arguments or ""))
        else:
            last = calls.pop()
            calls.append(ToolCall(last.id, last.name, last.arguments + (delta.arguments or "")))
    return calls


def total_usage(usages: Mapping[int, Usage], prompts: int = 1) -> Usage:
    """The usage of all answers, by their index: a prompt counts once, however many answers it has.

    `prompts` is the number of prompts, whose answers follow one another.
    """
    in_order = [usages[index] for index in sorted(usages)]
    answers_per_prompt = max(1, len(in_order) // prompts)
    of_prompts = in_order[::answers_per_prompt]
    return Usage(
        sum(usage.prompt_tokens for usage in of_prompts),
        sum(usage.completion_tokens for usage in in_order),
        sum(usage.cached_tokens for usage in of_prompts),
    )
