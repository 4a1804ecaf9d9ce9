"""Queries on a job's events."""

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Connection, bindparam, insert, select

from luthier.core.models import Event
from luthier.core.states import EventLevel, EventType
from luthier.store import rows, schema

_events = schema.events
_columns = [column for column in _events.c if column.name != "seq"]
_pages = rows.Pages(select(*_columns), _events, _events.c.job_id == bindparam("job_id"))


def insert_events(tx: Connection, events: Sequence[Event]) -> None:
    if events:
        tx.execute(insert(_events), [asdict(event) for event in events])


def list_page(tx: Connection, job_id: str, after: str | None, limit: int) -> tuple[list[Event], bool]:
    found, more = _pages.page(tx, after, limit, job_id=job_id)
    return [_event(row) for row in found], more


def list_since(tx: Connection, job_id: str, after: str | None, limit: int) -> list[Event]:
    """Events in the order in which they came, from the one that follows `after`."""
    found, _ = _pages.page(tx, after, limit, ascending=True, job_id=job_id)
    return [_event(row) for row in found]


def _event(row: rows.Row) -> Event:
    return Event(**{**row, "level": EventLevel(row["level"]), "type": EventType(row["type"])})
