"""How a model's answer is sent: within its rate limit, complete or as server-sent events, with the limit's headers.

`chat.py`, `completions.py` and `responses.py` make the InferenceCall; what differs between them is in its shapes.
"""

import json
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Protocol

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from luthier.api.auth import authentication
from luthier.api.auth.authentication import Credentials
from luthier.api.auth.revocation import WatchedRequest
from luthier.api.dialects.dialects import Dialect
from luthier.api.dialects.error_answers import ErrorAnswer
from luthier.api.dialects.inference import chat_answers
from luthier.api.http import thread_pools
from luthier.api.http.disconnects import CLIENT_CLOSED_REQUEST, CallerLeft, EventStream, unless_left
from luthier.api.http.thread_pools import Workers
from luthier.api.routes.inference.call_rate import CallRate
from luthier.api.routing.json_response import event_line
from luthier.api.services import Services
from luthier.core.engine_ports import Address
from luthier.core.errors import LuthierError
from luthier.core.inference.generation import Usage
from luthier.core.models import Principal
from luthier.service.inference import answer_spans, model_routing
from luthier.service.inference.answers import Answer, AnswerHeader, AnswerPart, ChoiceDelta
from luthier.service.inference.generation_requests import ChatRequest, CompletionRequest
from luthier.service.inference.model_routing import Route

Shape = dict[str, Any]
WITHOUT_EFFECT = "x-luthier-without-effect"


class AnswerShapes(Protocol):
    """The wire shapes of one request's answer, which it may remember. `begin` is called first, `end` or `fail` once.

    ChunkShapes for chats and legacy completions, ResponseShapes for responses.
    """

    def complete(self, header: AnswerHeader, answer: Answer) -> Shape:
        """The body of a complete answer; nothing else is called then but `keep`."""
        ...

    def begin(self, header: AnswerHeader) -> Iterable[str]:
        """The server-sent events that a streamed answer begins with."""
        ...

    def add(self, deltas: Sequence[ChoiceDelta]) -> Iterable[str]:
        """The events for these deltas."""
        ...

    def end(self, usage: Usage) -> Iterable[str]:
        """The events before the last, once the answer is complete."""
        ...

    def fail(self, error: LuthierError) -> Iterable[str]:
        """The events before the last, of an answer that breaks off."""
        ...

    @property
    def is_kept(self) -> bool:
        """Whether `keep` has anything to do."""
        ...

    def keep(self) -> None:
        """Stores what is to be stored of the answer, after `complete`, `end` or `fail`; runs in a thread."""
        ...

    def last(self) -> str:
        """The event that ends the stream."""
        ...


class Chunks(Protocol):
    """The shapes of ChatAnswers and CompletionAnswers: an answer, or chunks that all begin with the same header."""

    def complete(self, header: AnswerHeader, answer: Answer) -> Shape: ...

    def stream_header(self, header: AnswerHeader) -> Shape: ...

    def chunks(self, header: Shape, deltas: Sequence[ChoiceDelta]) -> Iterable[Shape]: ...


class ChunkShapes:
    """The events of an answer in chunks: with `wants_usage` each has a usage, which is null in all but the last.

    An error is the last event before [DONE].
    """

    def __init__(self, chunks: Chunks, error: type[ErrorAnswer], wants_usage: bool) -> None:
        self._chunks = chunks
        self._error = error
        self._wants_usage = wants_usage
        self._no_usage: Shape = {"usage": None} if wants_usage else {}
        self._header: Shape = {}

    def complete(self, header: AnswerHeader, answer: Answer) -> Shape:
        return self._chunks.complete(header, answer)

    def begin(self, header: AnswerHeader) -> Iterable[str]:
        """No event: the first chunk comes with the first delta."""
        self._header = self._chunks.stream_header(header)
        return ()

    def add(self, deltas: Sequence[ChoiceDelta]) -> Iterable[str]:
        """An event for each chunk."""
        return [event(chunk | self._no_usage) for chunk in self._chunks.chunks(self._header, deltas)]

    def end(self, usage: Usage) -> Iterable[str]:
        """The usage, if it is asked for."""
        if not self._wants_usage:
            return ()
        return (event({**self._header, "choices": [], "usage": chat_answers.usage(usage)}),)

    def fail(self, error: LuthierError) -> Iterable[str]:
        """The error in the dialect's envelope."""
        return (event_line(self._error.from_error(error)),)

    @property
    def is_kept(self) -> bool:
        """False: these answers are not stored."""
        return False

    def keep(self) -> None:
        """Nothing."""

    def last(self) -> str:
        return "data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class InferenceCall:
    """One call: the request, the shapes of its answer, and an upper estimate of its tokens for the rate limit."""

    request: ChatRequest | CompletionRequest
    shapes: AnswerShapes
    tokens: int
    is_streamed: bool
    without_effect: tuple[str, ...] = ()
    """Fields that ask for something and change nothing here; a response header lists them."""

    def headers(self) -> dict[str, str]:
        """The response header that lists `without_effect`; none if all fields have an effect."""
        return {WITHOUT_EFFECT: ", ".join(self.without_effect)} if self.without_effect else {}


class InferenceEndpoint:
    """Answers calls of models in one dialect: finds the engine, applies the rate limit, generates and sends."""

    def __init__(self, dialect: Dialect, services: Services) -> None:
        self._dialect = dialect
        self._services = services
        self._generation = services.generation

    async def respond(self, request: Request, caller: Principal, name: str, call: InferenceCall) -> Response:
        """The answer to a call of the deployment or model `name`; an empty 499 once the client has disconnected.

        Raises the errors of routing, rate limit and generation, which are answered with a status of their own.
        """
        try:
            return await unless_left(request.receive, self._respond(request, caller, name, call))
        except CallerLeft:
            return Response(status_code=CLIENT_CLOSED_REQUEST)

    async def _respond(self, request: Request, caller: Principal, name: str, call: InferenceCall) -> Response:
        """As `respond`, for a client that stays. The caller's right is watched while it waits for model and answer.

        Counts the estimate in the rate limit, and the usage instead at the end; nothing if the call fails before its
        first token. May load the model, and writes the deployment's time of last use.
        """
        services, resource_id = self._services, caller.resource.id
        credentials = authentication.credentials_of(request)
        with services.rights.watching(services.context, credentials) as watched:
            target = await run_in_threadpool(
                model_routing.find, services.context, resource_id, name, self._dialect.calls_models
            )
            route = await watched.unless_lost(model_routing.route(services.serving, resource_id, target))
            route = while_authorized(route, watched)
            answer_spans.note_request(name, route.model.canonical_name, call.request, call.is_streamed)
            rate = CallRate(services, request, caller, route.target)
            await rate.admit_on_loop(call.tokens)
            try:
                if not call.is_streamed:
                    answer = await watched.unless_lost(self._generation.complete(route, call.request))
                    await watched.check()
                    rate.settle(answer.usage.total_tokens)
                    shape = call.shapes.complete(self._generation.header(route), answer)
                    await _keep(call.shapes)
                    return JSONResponse(shape, headers=rate.headers() | call.headers())
                header = self._generation.header(route)
                parts = self._generation.stream(route, call.request)
                # An error before the first part is still an answer with a status of its own.
                first = await watched.unless_lost(anext(parts))
            except LuthierError:
                rate.settle(0)
                raise
        headers = rate.headers() | call.headers()
        return EventStream(self._events(call, header, first, parts, rate, credentials), headers)

    async def _events(
        self,
        call: InferenceCall,
        header: AnswerHeader,
        first: AnswerPart,
        rest: AsyncGenerator[AnswerPart],
        rate: CallRate,
        credentials: Credentials,
    ) -> AsyncGenerator[str]:
        """Server-sent events. Closes `rest`, which ends the generation.

        An error after the first part, a lost right included, is among the last events. The estimate stays counted for
        an answer that is not read to its end.
        """
        shapes = call.shapes
        watching = self._services.rights.watching(self._services.context, credentials)
        closing: Iterable[str] = ()
        try:
            async with aclosing(rest):
                for text in shapes.begin(header):
                    yield text
                with watching as watched:
                    await watched.check()
                    part: AnswerPart | None = first
                    while part is not None:
                        if isinstance(part, Usage):
                            rate.settle(part.total_tokens)
                            closing = shapes.end(part)
                        else:
                            for text in shapes.add(part):
                                yield text
                        part = await watched.unless_lost(anext(rest, None))
        except LuthierError as error:
            answer_spans.note_error(error.code)
            closing = shapes.fail(error)
        for text in closing:
            yield text
        await _keep(shapes)
        yield shapes.last()


async def _keep(shapes: AnswerShapes) -> None:
    """Stores what is to be stored of an answer, in a thread."""
    if shapes.is_kept:
        await thread_pools.run(Workers.WRITES, shapes.keep)


def while_authorized(route: Route, watched: WatchedRequest) -> Route:
    """A copy of the route; nothing is sent to its engine any more once the caller has lost the right to it."""

    async def current_address() -> Address:
        """The engine's address now. Raises Unauthenticated or Forbidden if the right is lost."""
        await watched.check()
        return await route.current_address()

    return replace(route, current_address=current_address)


def event(value: Shape) -> str:
    """One server-sent event that holds the value as JSON."""
    return f"data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n"
