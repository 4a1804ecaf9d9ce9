"""The lines of batches, answered as the live routes answer: the same bodies, checks and shapes, in the background.

`ENDPOINTS` has a row for each endpoint that a batch may name; the port is `service.batches.line_calls`.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from luthier.api.dialects import dialects
from luthier.api.dialects.dialects import Dialect
from luthier.api.dialects.error_answers import status_of
from luthier.api.http import thread_pools
from luthier.api.http.thread_pools import Workers
from luthier.api.intake import json_body
from luthier.api.requests import validation_errors
from luthier.api.requests.chat_bodies import ChatBody
from luthier.api.requests.completion_bodies import CompletionBody
from luthier.api.requests.embedding_bodies import EmbeddingBody
from luthier.api.requests.responses.response_bodies import ResponseBody
from luthier.api.routes.inference import chat, completions, embeddings, response_calls
from luthier.api.routes.inference.answer_stream import InferenceCall, Shape
from luthier.api.services import Services
from luthier.core.errors import InvalidRequest, LuthierError, Unsupported
from luthier.core.inference.batches import Batch
from luthier.core.inference.generation import Usage
from luthier.service.batches import input_lines
from luthier.service.batches.line_calls import LineAnswer
from luthier.service.inference import model_routing
from luthier.service.inference.model_routing import Route

NOT_STREAMED = "The answers of a batch are written to a file, not streamed; leave stream out."


@dataclass(frozen=True, slots=True)
class LineEndpoint:
    """How the lines of one endpoint are answered: the body that they have, and what makes the answer's shape of it.

    `check` raises InvalidRequest for a body that no route would take, and returns what `answer` needs of it, which is
    called with the route of the body's model.
    """

    body: type[BaseModel]
    check: Callable[[Any], Any]
    answer: Callable[[Services, Route, Any], Awaitable[tuple[Shape, Usage]]]
    embeds: bool = False
    """Whether it is for embedding models."""


async def _generated(services: Services, route: Route, call: InferenceCall) -> tuple[Shape, Usage]:
    """The complete answer of a chat or a completion, and its usage. Raises as `Generation.complete`."""
    answer = await services.generation.complete(route, call.request)
    return call.shapes.complete(services.generation.header(route), answer), answer.usage


def _unstreamed(call_of: Callable[[Any], InferenceCall]) -> Callable[[Any], InferenceCall]:
    """`call_of`, which refuses a body that asks for a stream."""

    def check(body: Any) -> InferenceCall:
        """The call. Raises InvalidRequest for a stream, and for contradictory fields."""
        call = call_of(body)
        if call.is_streamed:
            raise InvalidRequest("invalid_value", NOT_STREAMED, "stream")
        return call

    return check


def _chat(body: ChatBody) -> InferenceCall:
    return chat.call_of(body, dialects.OPENAI)  # dialects differ in what they stream


def _completion(body: CompletionBody) -> InferenceCall:
    return completions.call_of(body, dialects.OPENAI)


def _unstreamed_response(body: ResponseBody) -> ResponseBody:
    """The body. Raises InvalidRequest for a stream, for one in the background, and for contradictory fields."""
    if body.stream:
        raise InvalidRequest("invalid_value", NOT_STREAMED, "stream")
    if body.background:
        raise InvalidRequest("invalid_value", "A batch is in the background itself; leave it out.", "background")
    body.check()
    return body


async def _response(services: Services, route: Route, body: ResponseBody) -> tuple[Shape, Usage]:
    """The complete response, stored unless the body says no, and its usage. Raises as the live route."""
    with response_calls.errors_renamed():
        call = await run_in_threadpool(response_calls.response_call, services.context, route.resource_id, body)
        shape, usage = await _generated(services, route, call)
    if call.shapes.is_kept:
        await thread_pools.run(Workers.WRITES, call.shapes.keep)
    return shape, usage


def _embeddings(body: EmbeddingBody) -> EmbeddingBody:
    body.embedding_request()  # raises InvalidRequest for inputs that no model takes
    return body


async def _vectors(services: Services, route: Route, body: EmbeddingBody) -> tuple[Shape, Usage]:
    """The vectors of a body's inputs, and its usage. Raises as the live route."""
    shape = await embeddings.embed_as(services, route, body)
    return shape, Usage(shape["usage"]["prompt_tokens"], 0)


ENDPOINTS: dict[str, LineEndpoint] = {
    "/v1/chat/completions": LineEndpoint(ChatBody, _unstreamed(_chat), _generated),
    "/v1/completions": LineEndpoint(CompletionBody, _unstreamed(_completion), _generated),
    "/v1/responses": LineEndpoint(ResponseBody, _unstreamed_response, _response),
    "/v1/embeddings": LineEndpoint(EmbeddingBody, _embeddings, _vectors, embeds=True),
}
"""By the endpoint as OpenAI writes it."""


def check_endpoint(endpoint: str) -> None:
    """Raises Unsupported for an endpoint that batches do not have, in either vendor's spelling."""
    if input_lines.canonical(endpoint) not in ENDPOINTS:
        served = ", ".join(ENDPOINTS)
        text = f"endpoint is {endpoint[:64]!r}; batches are served for {served}."
        raise Unsupported("endpoint_not_supported", text, "endpoint")


class BatchLines:
    """Implements service.batches.line_calls.LineCalls for one application. No rate limit counts these calls: what a
    deployment may take in a minute is for live callers.
    """

    def __init__(self, services: Services) -> None:
        self._services = services

    async def answer(self, batch: Batch, body: bytes) -> LineAnswer:
        """The complete answer to a line's body. Raises what the live route answers with a status of its own."""
        endpoint = ENDPOINTS[input_lines.canonical(batch.endpoint)]
        if len(body) <= json_body.INLINE_BYTES:
            name, checked = _checked(endpoint, body)
        else:
            name, checked = await asyncio.to_thread(_checked, endpoint, body)
        target = await run_in_threadpool(self._target, batch, name)
        route = await model_routing.route(self._services.serving, batch.resource_id, target)
        shape, usage = await endpoint.answer(self._services, replace(route, is_background=True), checked)
        text = json.dumps(shape, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return LineAnswer(200, text.encode(), usage)

    def refusal(self, batch: Batch, error: LuthierError) -> LineAnswer:
        """The error in the envelope of the batch's dialect, with the status of its class."""
        return LineAnswer(status_of(error), msgspec.json.encode(_dialect(batch).error.from_error(error)))

    def check_model(self, batch: Batch, model: str) -> None:
        """Raises NotFound if no deployment or model of the name answers, as a line of it would be told."""
        self._target(batch, model)

    def _target(self, batch: Batch, name: str) -> model_routing.Target:
        """What the name means in the dialect of the batch. Raises NotFound."""
        calls_models, embeds = _dialect(batch).calls_models, ENDPOINTS[input_lines.canonical(batch.endpoint)].embeds
        return model_routing.find(self._services.context, batch.resource_id, name, calls_models, embeds)


def _dialect(batch: Batch) -> Dialect:
    return next(dialect for dialect in dialects.DIALECTS if dialect.name == batch.dialect)


class _Field:
    """A model of ours where `json_body.parse` expects FastAPI's field for a body."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model

    def validate(
        self, value: Any, values: dict[str, Any] | None = None, *, loc: tuple[int | str, ...] = ()
    ) -> tuple[Any, list[dict[str, Any]]]:
        """As FastAPI's: the value as an instance of the model, or its errors, each below `loc`."""
        try:
            return self._model.model_validate(value), []
        except ValidationError as error:
            errors = error.errors(include_url=False)
            return None, [{**one, "loc": (*loc, *one["loc"])} for one in errors]


def _checked(endpoint: LineEndpoint, text: bytes) -> tuple[str, Any]:
    """The model that a line's body names, and what `endpoint.check` makes of the body.

    Raises InvalidRequest and TooLarge with the words of the live route.
    """
    try:
        body: Any = json_body.parse(text, _Field(endpoint.body))
    except RequestValidationError as error:
        raise validation_errors.invalid_request(error.errors(), endpoint.body) from error
    return body.model, endpoint.check(body)
