"""Queries on a job's events."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, select

from luthier.core.json_text import JsonText
from luthier.core.models import Event
from luthier.core.states import EventLevel, EventType
from luthier.store import rows, schema

_events = schema.events
_columns = [column for column in _events.c if column.name != "seq"]
_LEVELS = {str(level): level for level in EventLevel}
_TYPES = {str(type): type for type in EventType}


def _event(
    id: str, job_id: str, created_at: datetime, level: str, type: str, message: str, data: JsonText | None
) -> Event:
    return Event(id, job_id, created_at, _LEVELS[level], _TYPES[type], message, data)


_of_job = _events.c.job_id == bindparam("job_id")
_pages = rows.Pages(select(*_columns), _events, _of_job, _event, {"data": rows.json_text})


def insert_events(tx: Connection, events: Sequence[Event]) -> None:
    if events:
        tx.execute(insert(_events), [asdict(event) for event in events])


def list_page(tx: Connection, job_id: str, after: str | None, limit: int) -> tuple[list[Event], bool]:
    return _pages.page(tx, after, limit, job_id=job_id)


def list_since(tx: Connection, job_id: str, after: str | None, limit: int) -> list[Event]:
    """Events in the order in which they came, from the one that follows `after`."""
    found, _ = _pages.page(tx, after, limit, ascending=True, job_id=job_id)
    return found
