"""Queries on how far each job's metrics have been sent to each experiment tracker.

Those that write need a transaction of `Database.writing`.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, or_, select, update

from luthier.core.states import TERMINAL_JOB_STATUSES, SinkName, SinkState
from luthier.store import delivery_schema, row_mapping, schema

_rows = delivery_schema.sink_cursors
_jobs = schema.jobs


@dataclass(frozen=True, slots=True)
class SinkCursor:
    """The delivery of one job to one sink. All events up to the number `cursor` are surely there.

    `tries` have failed since the last success, `next_at` is the time of the next one, None: now; `error` is the code of
    the last one's error. `run_id` and `place` are as in core.training.tracking.Delivery, None before the first success.
    """

    job_id: str
    sink: SinkName
    cursor: int = 0
    state: SinkState = SinkState.OPEN
    tries: int = 0
    next_at: datetime | None = None
    error: str | None = None
    run_id: str | None = None
    place: str | None = None


def insert_missing(tx: Connection, job_id: str, sinks: Collection[SinkName]) -> None:
    """Inserts a cursor at the job's beginning for each of the sinks, unless there is one."""
    if sinks:
        row_mapping.insert_missing(tx, _rows, [asdict(SinkCursor(job_id, sink)) for sink in sinks])


def list_due(tx: Connection, sink: SinkName, states: Sequence[SinkState], now: datetime) -> list[SinkCursor]:
    """The cursors of a sink in one of the states whose next try is due, of jobs that have started or ended. The ones
    that failed least come first.
    """
    has_news = or_(_jobs.c.started_at.is_not(None), _jobs.c.status.in_(TERMINAL_JOB_STATUSES))
    statement = (
        select(_rows)
        .join(_jobs, _jobs.c.id == _rows.c.job_id)
        .where(_rows.c.sink == sink, _rows.c.state.in_(states), has_news)
        .where(or_(_rows.c.next_at.is_(None), _rows.c.next_at <= now))
        .order_by(_rows.c.tries, _rows.c.next_at)
    )
    return [_cursor(row._mapping) for row in tx.execute(statement)]


def list_of_job(tx: Connection, job_id: str) -> list[SinkCursor]:
    """Every cursor of a job, by the names of the sinks."""
    statement = select(_rows).where(_rows.c.job_id == job_id).order_by(_rows.c.sink)
    return [_cursor(row._mapping) for row in tx.execute(statement)]


def save(tx: Connection, cursor: SinkCursor) -> bool:
    """Writes all columns of a cursor. False, and nothing written, if its row is gone."""
    statement = update(_rows).where(_rows.c.job_id == cursor.job_id, _rows.c.sink == cursor.sink)
    return tx.execute(statement.values(asdict(cursor))).rowcount == 1


def _cursor(row: Any) -> SinkCursor:
    """The cursor of one row."""
    values = dict(row)
    return SinkCursor(**values | {"sink": SinkName(values["sink"]), "state": SinkState(values["state"])})
