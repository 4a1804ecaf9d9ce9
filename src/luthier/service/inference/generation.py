"""The use case of a call: an answer to a chat or completion request, complete or streamed."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol

from luthier.core.inference.generation import Usage
from luthier.grammars.grammar_checker import GrammarChecker
from luthier.service.context import Context
from luthier.service.inference import answer_spans, answers, chat, completions
from luthier.service.inference.answers import Answer, AnswerHeader, AnswerPart
from luthier.service.inference.generation_requests import ChatRequest, CompletionRequest
from luthier.service.inference.model_routing import Route
from luthier.service.models.deployment_traffic import DeploymentTraffic
from luthier.service.scheduling.calls_port import AnswerCalls


class Meter(Protocol):
    """What is counted of answers: service_metrics.ServiceMetrics."""

    def observe_first_token(self, seconds: float, is_background: bool) -> None:
        """An answer has begun."""
        ...

    def count_tokens(self, usage: Usage, is_background: bool) -> None:
        """An answer is complete."""
        ...


@dataclass(frozen=True, slots=True)
class Generation:
    """What generates answers: the context of every use case, the calls to engines, and the compiler of grammars."""

    context: Context
    calls: AnswerCalls
    grammars: GrammarChecker
    meter: Meter | None = None
    """Counts what is generated; None counts nothing."""
    traffic: DeploymentTraffic = field(default_factory=DeploymentTraffic)
    """Counts the calls of each deployment."""

    def header(self, route: Route) -> AnswerHeader:
        """The header of a new answer: its id is 32 hex digits, without a dialect's prefix."""
        context = self.context
        return AnswerHeader(context.new_hex(), context.now(), route.model.canonical_name, route.fingerprint())

    async def complete(self, route: Route, request: ChatRequest | CompletionRequest) -> Answer:
        """The complete answer. Raises InvalidRequest, Unsupported, RateLimited, Unavailable and UpstreamFailed."""
        match request:
            case ChatRequest():
                async with aclosing(self.stream(route, request)) as parts:
                    return await answers.collect(parts)
            case CompletionRequest():
                whole = completions.complete(self.context, self.calls, route, request)
                answer = await self.traffic.counted(route.target.deployment, self.context.now(), whole, _tokens)
                answer_spans.note_answer(answer)
                if self.meter is not None:
                    self.meter.count_tokens(answer.usage, route.is_background)
                return answer

    def stream(self, route: Route, request: ChatRequest | CompletionRequest) -> AsyncGenerator[AnswerPart]:
        """The answer's deltas as they are generated, and last the usage. Closing the generator ends the generation.

        Raises as `complete`, before the first delta if the request is refused.
        """
        match request:
            case ChatRequest():
                parts = chat.stream(self.context, self.calls, self.grammars, route, request)
            case CompletionRequest():
                parts = completions.stream(self.context, self.calls, route, request)
        parts = self.traffic.metered(route.target.deployment, self.context.now(), answer_spans.traced(parts))
        return parts if self.meter is None else _metered(self.meter, route, parts)

    async def count_tokens(self, route: Route, request: ChatRequest) -> int:
        """The tokens of a chat's prompt. Raises InvalidRequest for one that does not fit, and as `complete`."""
        return await chat.count_tokens(self.context, self.calls, self.grammars, route, request)


def _tokens(answer: Answer) -> tuple[int, int]:
    """The tokens of an answer's prompts, and of its choices."""
    return answer.usage.prompt_tokens, answer.usage.completion_tokens


async def _metered(meter: Meter, route: Route, parts: AsyncGenerator[AnswerPart]) -> AsyncGenerator[AnswerPart]:
    """The parts of an answer, whose beginning and usage are counted."""
    asked_s: float | None = time.perf_counter()
    async with aclosing(parts):
        async for part in parts:
            if asked_s is not None:
                meter.observe_first_token(time.perf_counter() - asked_s, route.is_background)
                asked_s = None
            if isinstance(part, Usage):
                meter.count_tokens(part, route.is_background)
            yield part
