"""Use cases of stored responses: keep one, get one, continue a conversation, delete."""

import logging
from collections.abc import Sequence

from luthier.core.errors import Conflict, InvalidRequest, NotFound
from luthier.core.inference.stored_responses import (
    ANSWERED_STATUSES,
    OPEN_STATUSES,
    Json,
    ResponseStatus,
    StoredResponse,
    response_of_item,
)
from luthier.service.context import Context
from luthier.store.queries.inference import responses

logger = logging.getLogger(__name__)

MAX_ITEMS_PER_PAGE = 100
_EXPIRED_AT_ONCE = 200


def keep(context: Context, response: StoredResponse, owner: str | None = None) -> None:
    """Stores a response with its text; `owner` is the process that generates it in the background.

    Raises NoSpace on a full disk.
    """
    with context.database.writing() as tx:
        responses.insert_response(tx, response, owner)


def end(context: Context, response_id: str, status: ResponseStatus, body: Json, owner: str | None = None) -> bool:
    """Stores how a response in the background ended; False if it was cancelled or deleted before that, or taken over
    by another process than `owner`, unless that is None.

    Raises NoSpace on a full disk.
    """
    with context.database.writing() as tx:
        return responses.end(tx, response_id, status, body, context.now(), owner)


def fail(context: Context, resource_id: str, response_id: str, error: Json, owner: str | None = None) -> None:
    """Stores that a response in the background has failed, unless it was cancelled, deleted or taken over before.

    Raises NoSpace on a full disk.
    """
    response = get_open(context, resource_id, response_id)
    if response is not None:
        body = {**response.body, "status": str(ResponseStatus.FAILED), "error": error}
        end(context, response_id, ResponseStatus.FAILED, body, owner)


def get_open(context: Context, resource_id: str, response_id: str) -> StoredResponse | None:
    """The resource's response if it has no answer yet; None once it has ended or is gone."""
    with context.database.reading() as tx:
        response = responses.get(tx, resource_id, response_id)
    return response if response is not None and response.status in OPEN_STATUSES else None


def get(context: Context, resource_id: str, response_id: str) -> StoredResponse:
    """The resource's response. Raises NotFound, for another resource's as well."""
    with context.database.reading() as tx:
        response = responses.get(tx, resource_id, response_id)
    if response is None:
        raise not_found(response_id)
    return response


def cancel(context: Context, resource_id: str, response_id: str) -> StoredResponse:
    """Ends a response in the background that has no answer yet; one that was cancelled before is no error.

    Raises NotFound, Conflict for one that has ended, and InvalidRequest for one that is not in the background.
    """
    with context.database.writing() as tx:
        response = responses.get(tx, resource_id, response_id)
        if response is None:
            raise not_found(response_id)
        if not response.body.get("background"):
            raise InvalidRequest("invalid_value", "Only a response in the background can be cancelled.", "response_id")
        if response.status in OPEN_STATUSES:
            body = {**response.body, "status": str(ResponseStatus.CANCELLED)}
            responses.end(tx, response_id, ResponseStatus.CANCELLED, body, context.now())
        elif response.status is not ResponseStatus.CANCELLED:
            raise Conflict(
                "response_ended", f"This response has ended: its status is {response.status}.", "response_id"
            )
    return get(context, resource_id, response_id)


def delete(context: Context, resource_id: str, response_id: str) -> None:
    """Deletes a response with all its text; a conversation cannot be continued through it. Raises NotFound."""
    with context.database.writing() as tx:
        if not responses.delete(tx, resource_id, response_id):
            raise not_found(response_id)
    logger.info("response deleted id=%s resource=%s", response_id, resource_id)


def earlier_items(context: Context, resource_id: str, previous_id: str | None) -> list[Json]:
    """The items of a conversation up to the answer of `previous_id`: what was asked and answered, oldest first.

    None has none. Raises InvalidRequest for a response that the resource does not have, that has no answer, or before
    which one was deleted.
    """
    if previous_id is None:
        return []
    with context.database.reading() as tx:
        chain = responses.conversation(tx, resource_id, previous_id)
    if not chain:
        raise _previous(f"Previous response with id '{previous_id}' not found.")
    if chain[0].previous_id is not None:
        raise _previous(f"Of this conversation an earlier response, '{chain[0].previous_id}', was deleted.")
    if chain[-1].status not in ANSWERED_STATUSES:
        raise _previous(f"Previous response with id '{previous_id}' has no answer: its status is {chain[-1].status}.")
    return [item for response in chain for item in (*response.input_items, *response.output)]


def find_item(context: Context, resource_id: str, item_id: str, param: str) -> Json:
    """An item of the resource's stored responses by its id. Raises NotFound, whose param is `param`."""
    response_id = response_of_item(item_id)
    if response_id is not None:
        with context.database.reading() as tx:
            response = responses.get_items(tx, resource_id, response_id)
        for item in (*response.input_items, *response.output) if response else ():
            if item["id"] == item_id:
                return item
    raise NotFound(
        "item_not_found",
        f"Item with id '{item_id[:64]}' not found. Items are not kept when `store` is set to false.",
        param,
    )


def input_items(
    context: Context, resource_id: str, response_id: str, after: str | None, limit: int, ascending: bool
) -> tuple[Sequence[Json], bool]:
    """A page of what the model was given beside the instructions, earlier turns included; whether more follow.

    Raises NotFound, and InvalidRequest for an `after` that is none of these items.
    """
    with context.database.reading() as tx:
        chain = responses.conversation(tx, resource_id, response_id)
    if not chain:
        raise not_found(response_id)
    items = [item for one in chain for item in (*one.input_items, *one.output)]
    items = items[: len(items) - len(chain[-1].output)]
    if not ascending:
        items.reverse()
    if after:
        places = [place for place, item in enumerate(items) if item["id"] == after]
        if not places:
            raise InvalidRequest("invalid_value", f"'{after[:64]}' is no item of this response's input.", "after")
        items = items[places[0] + 1 :]
    return items[:limit], len(items) > limit


def remove_expired(context: Context) -> None:
    """Deletes the responses that were kept long enough; a conversation stays whole until its last one has expired."""
    before = context.deletion_time() - context.responses_kept_for
    removed = None
    while removed is None or removed == _EXPIRED_AT_ONCE:
        with context.database.reading() as tx:
            if not responses.has_ended_before(tx, before):
                return
        with context.database.writing() as tx:
            removed = responses.delete_ended_before(tx, before, _EXPIRED_AT_ONCE)
        logger.info("responses expired count=%d", removed)


def not_found(response_id: str) -> NotFound:
    """The error for an id that no response of the resource has."""
    return NotFound("response_not_found", f"Response with id '{response_id[:64]}' not found.", "response_id")


def _previous(text: str) -> InvalidRequest:
    return InvalidRequest("previous_response_not_found", text, "previous_response_id")
