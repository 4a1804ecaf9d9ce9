"""Queries on the attempts at a job's run: one row per start of its trainer. At most one of a job is open, the last; the
functions that write need a transaction of `Database.writing`.
"""

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, insert, select, update

from luthier.core.models import Attempt
from luthier.core.states import AttemptEnd
from luthier.store import row_mapping, schema

_attempts = schema.attempts
_columns = [column for column in _attempts.c if column.name != "seq"]


def insert_attempt(tx: Connection, attempt: Attempt) -> None:
    """Inserts the row of an attempt that begins. IntegrityError for a second one of its number is an internal fault."""
    tx.execute(insert(_attempts).values(asdict(attempt)))


def list_page(tx: Connection, job_id: str, after: str | None, limit: int) -> tuple[list[Attempt], bool]:
    """One page of a job's attempts, newest first, and whether more follow. Raises InvalidRequest, the caller's 400, if
    `after` is not an id of this list.
    """
    rows, more = row_mapping.page(tx, select(*_columns), _attempts, _attempts.c.job_id == job_id, after, limit)
    return [_attempt(row) for row in rows], more


def list_of_job(tx: Connection, job_id: str) -> list[Attempt]:
    """Every attempt at a job, newest first; empty if its trainer was never started."""
    statement = select(*_columns).where(_attempts.c.job_id == job_id).order_by(_attempts.c.seq.desc())
    return [_attempt(row) for row in tx.execute(statement).mappings()]


def set_last_step(tx: Connection, job_id: str, step: int) -> None:
    """Writes the last step that the open attempt has reported; one that has ended does not change."""
    tx.execute(update(_attempts).where(_open(job_id)).values(last_step=step))


def set_saved_step(tx: Connection, job_id: str, step: int) -> None:
    """Writes the last step that the open attempt can be resumed from; one that has ended does not change."""
    tx.execute(update(_attempts).where(_open(job_id)).values(saved_step=step))


def close(
    tx: Connection,
    job_id: str,
    at: datetime,
    end: AttemptEnd,
    *,
    signal: int | None = None,
    exit_status: int | None = None,
    error_code: str | None = None,
) -> None:
    """Ends the job's open attempt; does nothing if there is none. `signal` and `exit_status` are the trainer process's,
    `error_code` that of the job; None where unknown or not failed.
    """
    values = {"end": end, "signal": signal, "exit_status": exit_status, "error_code": error_code}
    tx.execute(update(_attempts).where(_open(job_id)).values(ended_at=at, **values))


def _open(job_id: str) -> ColumnElement[bool]:
    """The condition that selects the open attempt of a job: the one without an end."""
    return (_attempts.c.job_id == job_id) & _attempts.c.end.is_(None)


def _attempt(row: row_mapping.Row) -> Attempt:
    return Attempt(**{**row, "end": None if row["end"] is None else AttemptEnd(row["end"])})
