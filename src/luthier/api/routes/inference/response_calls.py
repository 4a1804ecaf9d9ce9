"""A response's call of a model: its conversation as a chat, the events of its answer, and what is stored of it.

`responses.py` has the routes; `background_responses.py` generates what nobody waits for.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from luthier.api.dialects.inference.response_answers import ResponseWriter, Shape
from luthier.api.requests.responses.response_bodies import PromptBody, ResponseBody
from luthier.api.requests.responses.response_items import Item, ReferenceBody
from luthier.api.routes.inference.answer_stream import InferenceCall, event
from luthier.core.errors import LuthierError, NoSpace
from luthier.core.inference.generation import Usage
from luthier.core.inference.stored_responses import ResponseStatus, StoredResponse, input_place
from luthier.service.context import Context
from luthier.service.inference.answers import Answer, AnswerHeader, ChoiceDelta
from luthier.service.inference.generation_requests import ChatRequest
from luthier.service.responses import stored_responses
from luthier.service.tenants.rate_limits import estimate

_PARAMS = {"messages": "input", "response_format": "text.format"}
"""Fields as chats name them, which the service's errors do, and as responses do."""


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
        return map(event_text, self._writer.begin(header))

    def add(self, deltas: Sequence[ChoiceDelta]) -> Iterable[str]:
        return map(event_text, self._writer.add(deltas))

    def end(self, usage: Usage) -> Iterable[str]:
        return list(map(event_text, self._writer.end(usage)))

    def fail(self, error: LuthierError) -> Iterable[str]:
        """As an event of its own; the response is then a failed one."""
        return list(map(event_text, self._writer.fail(renamed(error))))

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
        return event_text(self._writer.last())


def response_call(context: Context, resource_id: str, body: ResponseBody) -> InferenceCall:
    """The call of a response's body, with its estimate of tokens; reads the conversation that it continues.

    Raises InvalidRequest for contradictory fields and for what cannot be continued, NotFound for an unknown item.
    """
    body.check()
    hex32 = context.new_hex()
    earlier = [dict(item) for item in stored_responses.earlier_items(context, resource_id, body.previous_response_id)]
    items = stored_items(context, resource_id, body, hex32, earlier)
    request = body.chat_request(earlier, items)
    writer = ResponseWriter(hex32, body.settings(), body.log_probs, context.now)
    writer.body["store"] = is_stored = body.is_stored and bool(context.responses_kept_for)
    store = partial(_store, context, resource_id, body, items) if is_stored else None
    return InferenceCall(
        request,
        ResponseShapes(writer, store),
        tokens=estimate(characters(request), 0, body.max_output_tokens, 1),
        is_streamed=bool(body.stream),
        without_effect=body.without_effect(),
    )


def stored_items(
    context: Context, resource_id: str, body: PromptBody, hex32: str, earlier: Sequence[Item]
) -> list[Item]:
    """The request's own items in their stored form, each with an id that no other of the conversation has.

    References are the items that they name; `earlier` are the items of the conversation before.

    Raises InvalidRequest if there are none, and NotFound for an unknown reference.
    """
    items: list[Item] = []
    taken = {item["id"] for item in earlier}
    for index, item in enumerate(body.items()):
        place = input_place(hex32, index)
        if isinstance(item, ReferenceBody):
            found = dict(stored_responses.find_item(context, resource_id, item.id, f"input[{index}].id"))
        else:
            found = item.stored(place)
        if found["id"] in taken:  # it would end, or repeat for ever, a list that goes on after it
            found["id"] = f"{found['id'].partition('_')[0]}_{place}"
        taken.add(found["id"])
        items.append(found)
    return items


def _store(context: Context, resource_id: str, body: ResponseBody, items: Sequence[Item], answered: Shape) -> None:
    """Stores a response that has ended. Raises NoSpace."""
    stored_responses.keep(context, stored(context, resource_id, body, items, answered))


def stored(
    context: Context,
    resource_id: str,
    body: ResponseBody,
    items: Sequence[Item],
    answered: Shape,
    request: Shape | None = None,
) -> StoredResponse:
    """A response as it is kept: its body as it is so far, and the `request` of one that is still to be answered."""
    return StoredResponse(
        id=answered["id"],
        resource_id=resource_id,
        created_at=context.now(),
        status=ResponseStatus(answered["status"]),
        previous_id=body.previous_response_id,
        input_items=items,
        body=answered,
        request=request,
    )


def event_text(value: Shape) -> str:
    """One server-sent event, which says its kind in a line of its own as well."""
    return f"event: {value['type']}\n{event(value)}"


def chat_to_count(context: Context, resource_id: str, body: PromptBody) -> ChatRequest:
    """The chat whose tokens are to be counted. Raises as `response_call`."""
    earlier = [dict(item) for item in stored_responses.earlier_items(context, resource_id, body.previous_response_id)]
    return body.chat_request(earlier, stored_items(context, resource_id, body, context.new_hex(), earlier))


def chat_of_stored(context: Context, response: StoredResponse, body: ResponseBody) -> ChatRequest:
    """The chat of a stored response that has no answer yet. Raises as `response_call`."""
    earlier = stored_responses.earlier_items(context, response.resource_id, response.previous_id)
    return body.chat_request([dict(item) for item in earlier], [dict(item) for item in response.input_items])


def characters(request: ChatRequest) -> int:
    """The length of what the model is to read, tool definitions excepted, for an estimate of its tokens."""
    return sum(len(str(turn["content"])) for turn in request.messages)


def renamed(error: LuthierError) -> LuthierError:
    """The same error, whose param is a response's field instead of a chat's."""
    error.param = _PARAMS.get(error.param or "", error.param)
    return error


@contextmanager
def errors_renamed() -> Iterator[None]:
    """Errors that leave the block name a response's fields. Raises what the block raises."""
    try:
        yield
    except LuthierError as error:
        renamed(error)
        raise
