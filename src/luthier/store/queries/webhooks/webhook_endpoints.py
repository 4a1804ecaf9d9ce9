"""Queries on webhook endpoints. Those that write need a transaction of `Database.writing`."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from luthier.core.webhooks.webhook_events import WebhookEndpoint, WebhookEventType
from luthier.store import row_mapping
from luthier.store.webhook_schema import webhook_deliveries as _deliveries
from luthier.store.webhook_schema import webhook_endpoints as _endpoints

columns = [column for column in _endpoints.c if column.name != "seq"]
"""Those that `from_row` needs."""


def insert_endpoint(tx: Connection, endpoint: WebhookEndpoint) -> None:
    """Inserts the row. IntegrityError for a taken id is an internal fault."""
    tx.execute(insert(_endpoints).values(asdict(endpoint)))


def get(tx: Connection, resource_id: str, endpoint_id: str) -> WebhookEndpoint | None:
    """The endpoint; None if the resource has none of that id."""
    statement = select(*columns).where(_endpoints.c.id == endpoint_id, _endpoints.c.resource_id == resource_id)
    row = tx.execute(statement).mappings().first()
    return None if row is None else from_row(row)


def list_page(tx: Connection, resource_id: str, after: str | None, limit: int) -> tuple[list[WebhookEndpoint], bool]:
    """A page of the resource's endpoints, newest first, and whether more follow. Raises InvalidRequest, the caller's
    400, if `after` is not an endpoint of the resource.
    """
    scope = _endpoints.c.resource_id == resource_id
    rows, more = row_mapping.page(tx, select(*columns), _endpoints, scope, after, limit)
    return [from_row(row) for row in rows], more


def count(tx: Connection, resource_id: str) -> int:
    """How many endpoints the resource has."""
    statement = select(func.count()).select_from(_endpoints).where(_endpoints.c.resource_id == resource_id)
    return int(tx.execute(statement).scalar_one())


def replace_endpoint(tx: Connection, endpoint: WebhookEndpoint) -> None:
    """Writes every column of the endpoint whose id it has."""
    tx.execute(update(_endpoints).where(_endpoints.c.id == endpoint.id).values(asdict(endpoint)))


def disable(tx: Connection, endpoint_id: str, now: datetime) -> None:
    """Records that the endpoint has said that it is gone: no event is put into the outbox for it."""
    tx.execute(update(_endpoints).where(_endpoints.c.id == endpoint_id).values(disabled_at=now))


def delete(tx: Connection, resource_id: str, endpoint_id: str) -> bool:
    """Deletes the resource's endpoint with its deliveries, sent or not; False if it has none of that id."""
    if get(tx, resource_id, endpoint_id) is None:
        return False
    tx.execute(_deliveries.delete().where(_deliveries.c.endpoint_id == endpoint_id))
    tx.execute(_endpoints.delete().where(_endpoints.c.id == endpoint_id))
    return True


def from_row(row: row_mapping.Row) -> WebhookEndpoint:
    """The endpoint of a row that has `columns`."""
    values: Mapping[str, Any] = {column.name: row[column.name] for column in columns}
    event_types = tuple(WebhookEventType(type) for type in values["event_types"])
    return WebhookEndpoint(**{**values, "event_types": event_types})
