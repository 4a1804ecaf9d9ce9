"""What a span says of one call of a model, by OpenTelemetry's GenAI conventions: figures and names, never any text.

`api/http/call_spans.py` begins the span of a request; what happens in that request finds it here, without being handed
it. Without one, which is all the time unless traces are on, each function does nothing.
"""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass, field

from luthier.core.inference.generation import Usage
from luthier.core.ports import Span
from luthier.service.inference.answers import Answer, AnswerPart
from luthier.service.inference.embeddings import EmbeddingRequest
from luthier.service.inference.generation_requests import ChatRequest, CompletionRequest

PROVIDER = "luthier"
_SAMPLING = ("max_tokens", "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty")
"""Sampling fields whose names engines and the conventions share; stop strings are a caller's text."""


@dataclass(slots=True)
class CallSpan:
    """The span of the request in progress, `operation` being chat, text_completion or embeddings."""

    span: Span
    operation: str
    is_streamed: bool = False
    began_s: float = field(default_factory=time.perf_counter)


current: ContextVar[CallSpan | None] = ContextVar("current", default=None)
"""The span of the request whose code runs."""


def note_request(
    name: str, model: str, request: ChatRequest | CompletionRequest | EmbeddingRequest, is_streamed: bool = False
) -> None:
    """Says what was asked: the deployment or model `name`, which must exist, and the `model` whose weights answer."""
    if (call := current.get()) is None:
        return
    span, call.is_streamed = call.span, is_streamed
    span.rename(f"{call.operation} {name}")
    span.set("gen_ai.request.model", name)
    span.set("gen_ai.response.model", model)
    if isinstance(request, EmbeddingRequest):
        if request.dimensions is not None:
            span.set("gen_ai.embeddings.dimension.count", request.dimensions)
        return
    span.set("gen_ai.request.stream", is_streamed)
    sampling = request.sampling
    for field_name in _SAMPLING:
        if isinstance(value := sampling.fields.get(field_name), int | float):
            span.set(f"gen_ai.request.{field_name}", value)
    if sampling.seed is not None:
        span.set("gen_ai.request.seed", sampling.seed)
    if sampling.n != 1:
        span.set("gen_ai.request.choice.count", sampling.n)


def note_error(code: str) -> None:
    """Says why the call failed, by the code of its error."""
    if (call := current.get()) is not None:
        call.span.set("error.type", code)


def note_input_tokens(n_tokens: int) -> None:
    """Says how many tokens an embedding model has read."""
    if (call := current.get()) is not None:
        call.span.set("gen_ai.usage.input_tokens", n_tokens)


def note_answer(answer: Answer) -> None:
    """Says how a complete answer ended, and what it cost."""
    if (call := current.get()) is not None:
        _set_ends(call, [str(choice.finish_reason) for choice in answer.choices])
        _set_usage(call, answer.usage)


def traced(parts: AsyncGenerator[AnswerPart]) -> AsyncGenerator[AnswerPart]:
    """The parts of an answer; the span, if there is one, learns from them when the first came and how it ended."""
    call = current.get()
    return parts if call is None else _traced(call, parts)


async def _traced(call: CallSpan, parts: AsyncGenerator[AnswerPart]) -> AsyncGenerator[AnswerPart]:
    """The parts, each looked at on its way."""
    is_first, ends = True, dict[int, str]()
    async with aclosing(parts):
        async for part in parts:
            if is_first and call.is_streamed:
                call.span.set("gen_ai.response.time_to_first_chunk", time.perf_counter() - call.began_s)
            is_first = False
            if isinstance(part, Usage):
                _set_ends(call, [ends[index] for index in sorted(ends)])
                _set_usage(call, part)
            else:
                ends |= {delta.index: str(delta.finish_reason) for delta in part if delta.finish_reason is not None}
            yield part


def _set_ends(call: CallSpan, reasons: list[str]) -> None:
    call.span.set("gen_ai.response.finish_reasons", reasons)


def _set_usage(call: CallSpan, usage: Usage) -> None:
    call.span.set("gen_ai.usage.input_tokens", usage.prompt_tokens)
    call.span.set("gen_ai.usage.output_tokens", usage.completion_tokens)
    call.span.set("gen_ai.usage.cache_read.input_tokens", usage.cached_tokens)
