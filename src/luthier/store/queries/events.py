"""Queries on the events of jobs, those of training steps as raw text included. Their number (`seq`) is the order of all
events of all jobs, and behind every cursor. `insert_events` alone writes, and needs a transaction of
`Database.writing`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Integer, Text, bindparam, func, insert, select, type_coerce

from luthier.core.models import Event
from luthier.core.raw_json import JsonText
from luthier.core.states import EventCode, EventLevel, EventType
from luthier.store import json_functions, row_mapping, schema

_events = schema.events
_columns = [column for column in _events.c if column.name != "seq"]
_LEVELS = {str(level): level for level in EventLevel}
_TYPES = {str(type): type for type in EventType}


def _event(
    id: str, job_id: str, created_at: datetime, level: str, type: str, message: str, data: JsonText | None
) -> Event:
    """The event of one row's columns, in their order; states are looked up, which is faster than calling the enum."""
    return Event(id, job_id, created_at, _LEVELS[level], _TYPES[type], message, data)


def _numbered_event(
    seq: int, id: str, job_id: str, created_at: datetime, level: str, type: str, message: str, data: JsonText | None
) -> tuple[int, Event]:
    """The same with the row's number before it."""
    return seq, _event(id, job_id, created_at, level, type, message, data)


def _time(created_at: datetime) -> datetime:
    return created_at


_of_job = _events.c.job_id == bindparam("job_id")
_latest_time = row_mapping.Read(
    select(_events.c.created_at).where(_of_job).order_by(_events.c.seq.desc()).limit(1), _time
)
_numbered = row_mapping.Read(
    select(_events.c.seq, *_columns)
    .where(_of_job, _events.c.seq > bindparam("after", type_=_events.c.seq.type))
    .order_by(_events.c.seq)
    .limit(bindparam("row_limit", type_=_events.c.seq.type)),
    _numbered_event,
    {"data": row_mapping.json_text},
)
_newest = row_mapping.Read(select(func.coalesce(func.max(_events.c.seq), 0)), int)
_jobs_since = row_mapping.Read(select(_events.c.job_id).where(_events.c.seq > bindparam("newest")).distinct(), str)
_pages = row_mapping.Pages(select(*_columns), _events, _of_job, _event, {"data": row_mapping.json_text})

MetricsRow = tuple[Any, ...]
"""Of a step's event its number, its time in microseconds since 1970, and its data as JSON text."""
_FEW_EVENTS = 200
"""Among so many of a job's first events is each that is written once before its steps, and among as many of its last
ones each that is written at its end."""


_of_step = (_events.c.type == str(EventType.METRICS)) & _events.c.data.is_not(None)
_metrics = select(_events.c.seq, type_coerce(_events.c.created_at, Integer), type_coerce(_events.c.data, Text)).where(
    _of_job, _of_step
)
_metrics_after = row_mapping.Read(
    _metrics.where(_events.c.seq > bindparam("seq")).order_by(_events.c.seq).limit(bindparam("row_limit")), tuple
)
_newest_metrics = row_mapping.Read(_metrics.order_by(_events.c.seq.desc()).limit(bindparam("row_limit")), tuple)
_newest_id = row_mapping.Read(select(_events.c.id).where(_of_job).order_by(_events.c.seq.desc()).limit(1), str)
_id_of_seq = row_mapping.Read(select(_events.c.id).where(_events.c.seq == bindparam("seq")), str)
_seq_of_id = row_mapping.Read(select(_events.c.seq).where(_of_job, _events.c.id == bindparam("id")), int)


def _coded(*, last: bool) -> row_mapping.Read[Mapping[str, Any]]:
    """The data of the event of a code among a job's first or last events."""
    order = _events.c.seq.desc() if last else _events.c.seq
    part = select(_events.c.type, _events.c.data).where(_of_job).order_by(order).limit(_FEW_EVENTS).subquery()
    is_coded = json_functions.text_member(part.c.data, "code") == bindparam("code")
    statement = select(part.c.data).where(part.c.type == str(EventType.MESSAGE), is_coded)
    return row_mapping.Read(statement.limit(1), dict)


_first_coded, _last_coded = _coded(last=False), _coded(last=True)


def insert_events(tx: Connection, events: Sequence[Event]) -> None:
    """Appends events in the given order; their jobs may differ.

    Pages and streams follow the order of insertion, so no event is stored with an earlier time than the one of its job
    before it: an earlier one gets that time. The values passed in do not change.
    """
    if not events:
        return
    latest = {job_id: _latest_time.first(tx, job_id=job_id) for job_id in {event.job_id for event in events}}
    rows = []
    for event in events:
        before = latest[event.job_id]
        at = event.created_at if before is None else max(event.created_at, before)
        latest[event.job_id] = at
        rows.append(asdict(event) | {"created_at": at})
    tx.execute(insert(_events), rows)


def list_page(tx: Connection, job_id: str, after: str | None, limit: int) -> tuple[list[Event], bool]:
    """One page of a job's events, newest first, and whether more follow. Raises InvalidRequest, the caller's 400, if
    `after` is not an id of this list.
    """
    return _pages.page(tx, after, limit, job_id=job_id)


def list_since(tx: Connection, job_id: str, after: str | None, limit: int) -> list[Event]:
    """At most `limit` events of a job, oldest first, from the one after the event `after`, or from the first for None.
    Raises InvalidRequest, the caller's 400, if `after` is not an event of the job.
    """
    page, _ = _pages.page(tx, after, limit, ascending=True, job_id=job_id)
    return page


def list_numbered(tx: Connection, job_id: str, after: int, limit: int) -> list[tuple[int, Event]]:
    """At most `limit` events of a job with their numbers, oldest first, from the first number greater than `after`."""
    return _numbered.all(tx, job_id=job_id, after=after, row_limit=limit)


def newest(tx: Connection) -> int:
    """The number of the newest event of all jobs, 0 if there is none; each that is written later has a greater one."""
    return _newest.first(tx) or 0


def jobs_since(tx: Connection, newest: int) -> set[str]:
    """The ids of the jobs, of all resources, that have events with numbers greater than `newest`."""
    return set(_jobs_since.all(tx, newest=newest))


def metrics_after(tx: Connection, job_id: str, seq: int, batch: int = 10_000) -> Iterator[list[MetricsRow]]:
    """Yields the events of a job's steps with greater numbers than `seq`, oldest first, in lists of at most `batch`."""
    while rows := _metrics_after.raw(tx, job_id=job_id, seq=seq, row_limit=batch):
        yield rows
        seq = rows[-1][0]


def newest_metrics(tx: Connection, job_id: str, limit: int) -> list[MetricsRow]:
    """The events of a job's last `limit` reported steps, oldest first."""
    return _newest_metrics.raw(tx, job_id=job_id, row_limit=limit)[::-1]


def newest_id(tx: Connection, job_id: str) -> str | None:
    """The id of a job's newest event, which changes with each; None if it has none."""
    return _newest_id.first(tx, job_id=job_id)


def id_of(tx: Connection, seq: int) -> str | None:
    """The id of the event of that number; None if there is none."""
    return _id_of_seq.first(tx, seq=seq)


def seq_of(tx: Connection, job_id: str, event_id: str) -> int | None:
    """The number of a job's event by its id; None if the job has no such event."""
    return _seq_of_id.first(tx, job_id=job_id, id=event_id)


def data_of_first(tx: Connection, job_id: str, code: EventCode) -> Mapping[str, Any] | None:
    """The data of the first event of a code that is written before a job's steps; None if there is none."""
    return _first_coded.first(tx, job_id=job_id, code=str(code))


def data_of_last(tx: Connection, job_id: str, code: EventCode) -> Mapping[str, Any] | None:
    """The data of an event of a code that is written once, at a job's end; None if there is none."""
    return _last_coded.first(tx, job_id=job_id, code=str(code))
