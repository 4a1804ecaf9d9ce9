"""Queries on stored responses. A conversation is a chain of them, each with the id of the one before."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, insert, select, update

from luthier.core.inference.stored_responses import OPEN_STATUSES, ResponseItems, ResponseStatus, StoredResponse
from luthier.core.webhooks.webhook_events import RESPONSE_EVENTS
from luthier.store import inference_schema
from luthier.store.queries.webhooks import outbox

_responses = inference_schema.responses
_item_columns = [_responses.c.previous_id, _responses.c.status, _responses.c.input_items, _responses.c.output]


def insert_response(tx: Connection, response: StoredResponse, owner: str | None = None) -> None:
    """Inserts the row; `owner` is the process that generates the response in the background."""
    tx.execute(
        insert(_responses).values(
            id=response.id,
            resource_id=response.resource_id,
            created_at=response.created_at,
            status=response.status,
            previous_id=response.previous_id,
            input_items=list(response.input_items),
            **_parts(response.body),
            request=None if response.request is None else dict(response.request),
            owner=owner,
        )
    )


def get(tx: Connection, resource_id: str, response_id: str) -> StoredResponse | None:
    """The resource's response; None if it has none of that id."""
    condition = _responses.c.id == response_id, _responses.c.resource_id == resource_id
    row = tx.execute(select(_responses).where(*condition)).mappings().first()
    return None if row is None else _response(row)


def get_items(tx: Connection, resource_id: str, response_id: str) -> ResponseItems | None:
    """The items of the resource's response; None if it has none of that id."""
    condition = _responses.c.id == response_id, _responses.c.resource_id == resource_id
    row = tx.execute(select(*_item_columns).where(*condition)).first()
    return None if row is None else ResponseItems(row[0], ResponseStatus(row[1]), row[2], row[3])


def conversation(tx: Connection, resource_id: str, last_id: str) -> list[ResponseItems]:
    """The items of the responses of the conversation that ends with `last_id`, oldest first.

    The first of them has no `previous_id`, unless a response before it is gone. Empty if there is no such response.
    """
    chain = select(_responses.c.id, _responses.c.previous_id).where(
        _responses.c.id == last_id, _responses.c.resource_id == resource_id
    )
    links = chain.cte("links", recursive=True)
    earlier = _responses.alias()
    links = links.union(
        select(earlier.c.id, earlier.c.previous_id).where(
            earlier.c.id == links.c.previous_id, earlier.c.resource_id == resource_id
        )
    )
    of_chain = _responses.c.id.in_(select(links.c.id))
    rows = tx.execute(select(*_item_columns).where(of_chain).order_by(_responses.c.seq))
    return [ResponseItems(row[0], ResponseStatus(row[1]), row[2], row[3]) for row in rows]


def end(
    tx: Connection,
    response_id: str,
    status: ResponseStatus,
    body: Mapping[str, Any],
    at: datetime,
    owner: str | None = None,
) -> bool:
    """Sets status and body of a response that had no answer yet; False, and no change, for every other one, and for one
    that has another owner than `owner`, unless that is None.

    The webhook event of a last status, which is of the time `at`, is put into the outbox in the same transaction.
    """
    condition = [_responses.c.id == response_id, _responses.c.status.in_(OPEN_STATUSES)]
    if owner is not None:
        condition.append(_responses.c.owner == owner)
    request = _responses.c.request if status in OPEN_STATUSES else None
    values = {"status": status, "request": request, **_parts(body)}
    if tx.execute(update(_responses).where(*condition).values(values)).rowcount != 1:
        return False
    if status in RESPONSE_EVENTS:
        resource = select(_responses.c.resource_id).where(_responses.c.id == response_id)
        outbox.insert_event(tx, resource, RESPONSE_EVENTS[status], response_id, at)
    return True


@dataclass(frozen=True, slots=True)
class OpenResponse:
    """A response that has no answer yet. `owner` is the process that generates it, None before there were several."""

    id: str
    resource_id: str
    owner: str | None


def list_open(tx: Connection) -> list[OpenResponse]:
    """The responses that have no answer yet, of all resources, oldest first."""
    columns = _responses.c.id, _responses.c.resource_id, _responses.c.owner
    statement = select(*columns).where(_responses.c.status.in_(OPEN_STATUSES)).order_by(_responses.c.seq)
    return [OpenResponse(row.id, row.resource_id, row.owner) for row in tx.execute(statement)]


def generation(tx: Connection, resource_id: str, response_id: str) -> tuple[ResponseStatus, str | None] | None:
    """Status and owner of the resource's response, without its text; None if it has none of that id."""
    condition = _responses.c.id == response_id, _responses.c.resource_id == resource_id
    row = tx.execute(select(_responses.c.status, _responses.c.owner).where(*condition)).first()
    return None if row is None else (ResponseStatus(row[0]), row[1])


def take_over(tx: Connection, response: OpenResponse, owner: str) -> bool:
    """Makes a process the owner of an open response; False, and no change, if it has ended or another owner by now."""
    is_same = _responses.c.owner.is_(None) if response.owner is None else _responses.c.owner == response.owner
    condition = _responses.c.id == response.id, _responses.c.status.in_(OPEN_STATUSES), is_same
    return tx.execute(update(_responses).where(*condition).values(owner=owner)).rowcount == 1


def delete(tx: Connection, resource_id: str, response_id: str) -> bool:
    """Deletes the resource's response with all its text; False if it has none of that id."""
    condition = _responses.c.id == response_id, _responses.c.resource_id == resource_id
    return tx.execute(_responses.delete().where(*condition)).rowcount == 1


def has_ended_before(tx: Connection, before: datetime) -> bool:
    """Whether `delete_ended_before` would find any."""
    return tx.execute(_ended_before(before).limit(1)).first() is not None


def delete_ended_before(tx: Connection, before: datetime, limit: int) -> int:
    """Deletes at most `limit` responses that were created before that time and that no kept response continues.

    Returns how many. A conversation is deleted from its end, so a later call may find more.
    """
    return tx.execute(_responses.delete().where(_responses.c.seq.in_(_ended_before(before).limit(limit)))).rowcount


def _ended_before(before: datetime) -> Select[tuple[int]]:
    """The responses that have ended, are older than that time, and that no kept response continues."""
    later = _responses.alias()
    is_continued = select(later.c.id).where(later.c.previous_id == _responses.c.id).exists()
    return select(_responses.c.seq).where(
        _responses.c.created_at < before, _responses.c.status.not_in(OPEN_STATUSES), ~is_continued
    )


def _parts(body: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a body: its output, and all else."""
    return {"output": list(body["output"]), "body": {name: body[name] for name in body if name != "output"}}


def _response(row: RowMapping) -> StoredResponse:
    return StoredResponse(
        id=row["id"],
        resource_id=row["resource_id"],
        created_at=row["created_at"],
        status=ResponseStatus(row["status"]),
        previous_id=row["previous_id"],
        input_items=row["input_items"],
        body={**row["body"], "output": row["output"]},
        request=row["request"],
    )
