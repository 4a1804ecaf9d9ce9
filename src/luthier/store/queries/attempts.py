"""Queries on the attempts at a job's run. At most one of a job is open: the last."""

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, insert, select, update

from luthier.core.models import Attempt
from luthier.core.states import AttemptEnd
from luthier.store import row_mapping, schema

_attempts = schema.attempts
_columns = [column for column in _attempts.c if column.name != "seq"]


def insert_attempt(tx: Connection, attempt: Attempt) -> None:
    tx.execute(insert(_attempts).values(asdict(attempt)))


def list_page(tx: Connection, job_id: str, after: str | None, limit: int) -> tuple[list[Attempt], bool]:
    rows, more = row_mapping.page(tx, select(*_columns), _attempts, _attempts.c.job_id == job_id, after, limit)
    return [_attempt(row) for row in rows], more


def list_of_job(tx: Connection, job_id: str) -> list[Attempt]:
    """Every attempt at a job, newest first."""
    statement = select(*_columns).where(_attempts.c.job_id == job_id).order_by(_attempts.c.seq.desc())
    return [_attempt(row) for row in tx.execute(statement).mappings()]


def set_last_step(tx: Connection, job_id: str, step: int) -> None:
    """Writes the last step of the open attempt; one that has ended does not change."""
    tx.execute(update(_attempts).where(_open(job_id)).values(last_step=step))


def set_saved_step(tx: Connection, job_id: str, step: int) -> None:
    """Writes the last step of the open attempt that is saved."""
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
    """Ends the open attempt, if there is one."""
    values = {"end": end, "signal": signal, "exit_status": exit_status, "error_code": error_code}
    tx.execute(update(_attempts).where(_open(job_id)).values(ended_at=at, **values))


def _open(job_id: str) -> ColumnElement[bool]:
    return (_attempts.c.job_id == job_id) & _attempts.c.end.is_(None)


def _attempt(row: row_mapping.Row) -> Attempt:
    return Attempt(**{**row, "end": None if row["end"] is None else AttemptEnd(row["end"])})
