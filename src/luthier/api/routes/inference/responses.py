"""/responses: an answer of a model with its items, complete and streamed, stored so that a conversation continues."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Annotated

from fastapi import Depends, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from luthier.api.auth import authentication
from luthier.api.dialects.dialects import Dialect
from luthier.api.dialects.inference.response_answers import ResponseWriter, Shape
from luthier.api.requests.responses.response_bodies import ResponseBody
from luthier.api.requests.responses.response_items import Item, ReferenceBody
from luthier.api.routes.inference.answer_stream import WITHOUT_EFFECT, InferenceCall, InferenceEndpoint, event
from luthier.api.routing import chat_schemas, response_schemas
from luthier.api.routing.operation import JSON, SSE, Details, EventStreamOf, Reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.errors import InvalidRequest, LuthierError, NoSpace
from luthier.core.generation import Usage
from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.core.stored_responses import ResponseStatus, StoredResponse, input_place
from luthier.service.context import Context
from luthier.service.inference.answers import Answer, AnswerHeader, ChoiceDelta
from luthier.service.responses import stored_responses
from luthier.service.tenants.rate_limits import estimate

_SUMMARY = "Create a response; with stream=true as server-sent events"
_REPLY = Reply(
    content={JSON: response_schemas.response(), SSE: EventStreamOf(response_schemas.event())},
    headers=(*chat_schemas.RATE_LIMIT_HEADERS, WITHOUT_EFFECT),
)
_DETAILS: Details = {**chat_schemas.INFERENCE, "example": response_schemas.EXAMPLE}
_PARAMS = {"messages": "input", "response_format": "text.format"}
"""Fields as chats name them, which the service's errors do, and as responses do."""


def add_routes(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds the dialect's route of new responses."""
    Caller = Annotated[Principal, Depends(authentication.require_key(services.context))]
    endpoint = InferenceEndpoint(dialect, services)

    @router.post("/responses", Action.INFER, _SUMMARY, _REPLY, **_DETAILS)
    async def create_response(request: Request, body: ResponseBody, caller: Caller) -> Response:
        """`model` names a deployment, or in OpenAI's dialect a model.

        A response is stored for 30 days unless `store` is false; a later one continues it by `previous_response_id`.
        """
        if body.model is None:
            raise InvalidRequest("missing_model", "model is missing; name a deployment or a model in it.", "model")
        try:
            call = await run_in_threadpool(_call, services.context, caller.resource.id, body)
            return await endpoint.respond(request, caller, body.model, call)
        except LuthierError as error:
            error.param = _PARAMS.get(error.param or "", error.param)
            raise


class ResponseShapes:
    """The events of one response, and its storage once it has ended."""

    def __init__(self, writer: ResponseWriter, store: Callable[[Shape], None] | None) -> None:
        """`store` takes the body of the response that has ended; None keeps nothing."""
        self._writer = writer
        self._store = store

    def complete(self, header: AnswerHeader, answer: Answer) -> Shape:
        """The response with its output."""
        self._writer.complete(header, answer)
        return self._writer.body

    def begin(self, header: AnswerHeader) -> Iterable[str]:
        return map(_event, self._writer.begin(header))

    def add(self, deltas: Sequence[ChoiceDelta]) -> Iterable[str]:
        return map(_event, self._writer.add(deltas))

    def end(self, usage: Usage) -> Iterable[str]:
        return list(map(_event, self._writer.end(usage)))

    def fail(self, error: LuthierError) -> Iterable[str]:
        """As an event of its own; the response is then a failed one."""
        error.param = _PARAMS.get(error.param or "", error.param)
        return list(map(_event, self._writer.fail(error)))

    @property
    def is_kept(self) -> bool:
        return self._store is not None

    def keep(self) -> None:
        """Stores the response. On a full disk it is given all the same, and says that it is not stored."""
        if self._store is None:
            return
        try:
            self._store(self._writer.body)
        except NoSpace:
            self._writer.body["store"] = False

    def last(self) -> str:
        return _event(self._writer.last())


def _call(context: Context, resource_id: str, body: ResponseBody) -> InferenceCall:
    """The call of a response's body, with its estimate of tokens; reads the conversation that it continues.

    Raises InvalidRequest for contradictory fields and for what cannot be continued, NotFound for an unknown item.
    """
    body.check()
    hex32 = context.new_hex()
    earlier = [dict(item) for item in stored_responses.earlier_items(context, resource_id, body.previous_response_id)]
    items = _items(context, resource_id, body, hex32)
    request = body.chat_request(earlier, items)
    characters = sum(len(str(turn["content"])) for turn in request.messages)
    writer = ResponseWriter(hex32, body.settings(), body.log_probs, context.now)
    store = partial(_store, context, resource_id, body, items) if body.is_stored else None
    return InferenceCall(
        request,
        ResponseShapes(writer, store),
        tokens=estimate(characters, 0, body.max_output_tokens, 1),
        is_streamed=bool(body.stream),
        without_effect=body.without_effect(),
    )


def _items(context: Context, resource_id: str, body: ResponseBody, hex32: str) -> list[Item]:
    """The request's own items in their stored form, each with an id; references are the items that they name.

    Raises InvalidRequest if there are none, and NotFound for an unknown reference.
    """
    items: list[Item] = []
    for index, item in enumerate(body.items()):
        if isinstance(item, ReferenceBody):
            param = f"input[{index}].id"
            items.append(dict(stored_responses.find_item(context, resource_id, item.id, param)))
        else:
            items.append(item.stored(input_place(hex32, index)))
    return items


def _store(context: Context, resource_id: str, body: ResponseBody, items: Sequence[Item], answered: Shape) -> None:
    """Stores a response that has ended. Raises NoSpace."""
    stored_responses.keep(
        context,
        StoredResponse(
            id=answered["id"],
            resource_id=resource_id,
            created_at=context.now(),
            status=ResponseStatus(answered["status"]),
            previous_id=body.previous_response_id,
            input_items=items,
            body=answered,
        ),
    )


def _event(value: Shape) -> str:
    """One server-sent event, which says its kind in a line of its own as well."""
    return f"event: {value['type']}\n{event(value)}"
