"""Queries on the outbox of webhooks: deliveries that are due, and how they ended. Those that write need a transaction
of `Database.writing`.

`insert_event` is called by the functions that write the status of a job, batch or response, in their transaction: an
event exists if and only if its status does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Select, func, select, update

from luthier.core.webhooks import webhook_events
from luthier.core.webhooks.webhook_events import Delivery, DeliveryState, WebhookEndpoint, WebhookEventType
from luthier.store import row_mapping, schema
from luthier.store.queries.webhooks import webhook_endpoints
from luthier.store.webhook_schema import webhook_deliveries as _deliveries
from luthier.store.webhook_schema import webhook_endpoints as _endpoints

_AT_ONCE = datetime(1970, 1, 1, tzinfo=UTC)
"""When a new delivery is due: an event's own time may be ahead of this machine's clock."""
_is_pending = _deliveries.c.state == DeliveryState.PENDING
_columns = [_deliveries.c[name] for name in ("id", "type", "body", "attempts", "first_attempt_at")]


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery whose time has come, and its endpoint."""

    delivery: Delivery
    endpoint: WebhookEndpoint


def insert_event(
    tx: Connection, owner: Select[tuple[Any]], type: WebhookEventType, subject_id: str, at: datetime
) -> None:
    """Puts an event into the outbox, due at once, for each endpoint that wants it of the resource that `owner` selects.

    The same event again changes nothing.
    """
    statement = select(_endpoints.c.id, _endpoints.c.event_types).where(
        _endpoints.c.resource_id == owner.scalar_subquery(), _endpoints.c.disabled_at.is_(None)
    )
    wanting = [id for id, event_types in tx.execute(statement) if type in event_types]
    if not wanting:
        return
    event_id = webhook_events.event_id(type, subject_id, at)
    common = {
        "event_id": event_id,
        "type": type,
        "body": webhook_events.event_body(event_id, type, subject_id, at),
        "created_at": at,
        "state": DeliveryState.PENDING,
        "attempts": 0,
        "next_at": _AT_ONCE,
    }
    rows = [common | {"id": webhook_events.delivery_id(event_id, id), "endpoint_id": id} for id in wanting]
    row_mapping.insert_missing(tx, _deliveries, rows)


def list_due(tx: Connection, now: datetime, per_endpoint: int) -> list[Due]:
    """The deliveries that are due, at most so many of each endpoint, in the order of their events; none of a resource
    that was deleted.
    """
    place = func.row_number().over(partition_by=_deliveries.c.endpoint_id, order_by=_deliveries.c.seq)
    first = select(_deliveries.c.seq, place.label("place")).where(_is_pending, _deliveries.c.next_at <= now).subquery()
    lives = select(schema.resources.c.id).where(schema.resources.c.deleted_at.is_(None))
    statement = (
        select(*_columns, *(column.label(f"endpoint_{column.name}") for column in webhook_endpoints.columns))
        .join(first, first.c.seq == _deliveries.c.seq)
        .join(_endpoints, _endpoints.c.id == _deliveries.c.endpoint_id)
        .where(first.c.place <= per_endpoint, _endpoints.c.resource_id.in_(lives))
        .order_by(_deliveries.c.seq)
    )
    return [_due(row) for row in tx.execute(statement).mappings()]


def set_delivered(tx: Connection, delivery_id: str, status_code: int, first: datetime, now: datetime) -> bool:
    """Records that an attempt at `now` was accepted; False if the delivery has ended or is gone. `first` is the time of
    the first attempt.
    """
    values = {"state": DeliveryState.DELIVERED, "status_code": status_code, "next_at": None, "ended_at": now}
    return _record(tx, delivery_id, values, first)


def set_retry(
    tx: Connection, delivery_id: str, status_code: int | None, first: datetime, now: datetime, next_at: datetime | None
) -> bool:
    """Records an attempt that was not accepted, and when the next is due: None gives up. `status_code` is None where
    nothing answered; as `set_delivered`.
    """
    ended = {"state": DeliveryState.FAILED, "ended_at": now} if next_at is None else {}
    return _record(tx, delivery_id, {"status_code": status_code, "next_at": next_at, **ended}, first)


def postpone(tx: Connection, endpoint_id: str, until: datetime) -> None:
    """Tries none of the endpoint's deliveries before that time: it has asked for that."""
    sooner = _deliveries.c.endpoint_id == endpoint_id, _is_pending, _deliveries.c.next_at < until
    tx.execute(update(_deliveries).where(*sooner).values(next_at=until))


def fail_all(tx: Connection, endpoint_id: str, now: datetime) -> None:
    """Ends what is pending of an endpoint that is gone."""
    pending = _deliveries.c.endpoint_id == endpoint_id, _is_pending
    tx.execute(update(_deliveries).where(*pending).values(state=DeliveryState.FAILED, next_at=None, ended_at=now))


def has_ended_before(tx: Connection, before: datetime) -> bool:
    """Whether `delete_ended_before` would delete any."""
    return tx.execute(select(_deliveries.c.seq).where(_deliveries.c.ended_at < before).limit(1)).first() is not None


def delete_ended_before(tx: Connection, before: datetime) -> int:
    """Deletes the deliveries that ended before that time; returns how many."""
    return tx.execute(_deliveries.delete().where(_deliveries.c.ended_at < before)).rowcount


def _record(tx: Connection, delivery_id: str, values: Mapping[str, object], first: datetime) -> bool:
    """Counts an attempt and writes what came of it, if the delivery is pending."""
    pending = _deliveries.c.id == delivery_id, _is_pending
    counted = {"attempts": _deliveries.c.attempts + 1, "first_attempt_at": first}
    return tx.execute(update(_deliveries).where(*pending).values({**values, **counted})).rowcount == 1


def _due(row: row_mapping.Row) -> Due:
    delivery = Delivery(**{column.name: row[column.name] for column in _columns})
    values = {column.name: row[f"endpoint_{column.name}"] for column in webhook_endpoints.columns}
    return Due(delivery, webhook_endpoints.from_row(values))
