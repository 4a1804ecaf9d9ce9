"""Queries on jobs. `move` is the one place that writes a status."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, TableValuedAlias, bindparam, func, insert, select, update

from luthier.core.hyperparameters import Hyperparameters, ResolvedHyperparameters
from luthier.core.models import Job, JobError
from luthier.core.states import TERMINAL_JOB_STATUSES, JobStatus, Method
from luthier.store import rows, schema

_jobs = schema.jobs
_columns = [column for column in _jobs.c if column.name != "seq"]
_select = select(*_columns)
_seen = ~_jobs.c.is_deleted
_of_resource = (_jobs.c.resource_id == bindparam("resource_id")) & _seen
_STATUSES = {str(status): status for status in JobStatus}
_ERROR = [field.name for field in fields(Job)].index("error")
_OPEN = [status for status in JobStatus if status not in TERMINAL_JOB_STATUSES]


def _job(*values: Any) -> Job:
    """The columns stand in the order of Job's fields, those of its hyperparameters in their place."""
    id, resource_id, status, *rest = values
    row = [id, resource_id, _STATUSES[status], *rest[:5], Hyperparameters(*rest[5:9]), Method(rest[9]), *rest[10:]]
    row[_ERROR] = rows.error_from_json(row[_ERROR])
    return Job(*row)


_one = rows.Read(_select.where(_jobs.c.id == bindparam("job_id"), _of_resource), _job)
_one_id = rows.Read(select(_jobs.c.id).where(_jobs.c.id == bindparam("job_id"), _of_resource), str)
_pages = rows.Pages(_select, _jobs, _of_resource, _job)


def insert_job(tx: Connection, job: Job) -> None:
    values = asdict(job)
    values |= values.pop("hyperparameters")
    tx.execute(insert(_jobs).values(values))


def get(tx: Connection, resource_id: str, job_id: str) -> Job | None:
    return _one.first(tx, job_id=job_id, resource_id=resource_id)


def exists(tx: Connection, resource_id: str, job_id: str) -> bool:
    return _one_id.first(tx, job_id=job_id, resource_id=resource_id) is not None


def list_page(
    tx: Connection, resource_id: str, after: str | None, limit: int, metadata: Mapping[str, str] | None
) -> tuple[list[Job], bool]:
    """One page of the resource's jobs: those with all pairs of `metadata`; None: those that have no metadata at all."""
    if metadata == {}:
        return _pages.page(tx, after, limit, resource_id=resource_id)
    statement = _select
    if metadata is None:
        statement = statement.where(~select(_pairs()).exists())
    for key, value in (metadata or {}).items():
        pairs = _pairs()
        statement = statement.where(select(pairs).where(pairs.c.key == key, pairs.c.value == value).exists())
    scope = (_jobs.c.resource_id == resource_id) & _seen
    found, more = rows.page(tx, statement, _jobs, scope, after, limit)
    return [_job(*row.values()) for row in found], more


def list_open(tx: Connection) -> list[Job]:
    """Every job that is not ended, of all resources, oldest first."""
    statement = _select.where(_jobs.c.status.in_(_OPEN)).order_by(_jobs.c.seq)
    return [_job(*row) for row in tx.execute(statement)]


def list_unreleased(tx: Connection) -> list[Job]:
    """Every ended job whose process and run directory are still to be cleared away."""
    statement = _select.where(_jobs.c.status.in_(TERMINAL_JOB_STATUSES), _jobs.c.has_run)
    return [_job(*row) for row in tx.execute(statement)]


def move(tx: Connection, job_id: str, sources: Collection[JobStatus], target: JobStatus, **values: object) -> bool:
    """Writes a status, and `values` with it, if the job is in one of `sources`; False if it is not."""
    if isinstance(error := values.get("error"), JobError):
        values["error"] = rows.error_to_json(error)
    statement = update(_jobs).where(_jobs.c.id == job_id, _jobs.c.status.in_(list(sources)))
    return tx.execute(statement.values(status=target, **values)).rowcount == 1


def set_hyperparameters(tx: Connection, job_id: str, resolved: ResolvedHyperparameters) -> None:
    tx.execute(update(_jobs).where(_jobs.c.id == job_id).values(asdict(resolved)))


def set_handle(tx: Connection, job_id: str, handle: str | None) -> None:
    tx.execute(update(_jobs).where(_jobs.c.id == job_id).values(handle=handle))


def set_started_at(tx: Connection, job_id: str, started_at: datetime) -> None:
    tx.execute(update(_jobs).where(_jobs.c.id == job_id).values(started_at=started_at))


def set_released(tx: Connection, job_id: str) -> None:
    """Notes that neither process nor run directory is left."""
    tx.execute(update(_jobs).where(_jobs.c.id == job_id).values(handle=None, has_run=False))


def set_progress(
    tx: Connection, job_id: str, absorbed_bytes: int, started_at: datetime | None, estimated_finish: datetime | None
) -> None:
    """Writes how far the run's events are absorbed, and what they told of times."""
    values = {"started_at": started_at, "estimated_finish": estimated_finish}
    known = {name: value for name, value in values.items() if value is not None}
    tx.execute(update(_jobs).where(_jobs.c.id == job_id).values(absorbed_bytes=absorbed_bytes, **known))


def hide(tx: Connection, job_id: str) -> None:
    """Takes a job out of its user's sight; its row stays for the supervisor, which has a run to clear away."""
    tx.execute(update(_jobs).where(_jobs.c.id == job_id).values(is_deleted=True))


def is_hidden(tx: Connection, job_id: str) -> bool:
    return tx.execute(select(_jobs.c.id).where(_jobs.c.id == job_id, _jobs.c.is_deleted)).first() is not None


def delete(tx: Connection, job_id: str) -> None:
    """Deletes a job with its events and attempts; its checkpoints must be gone."""
    for table in (schema.events, schema.attempts):
        tx.execute(table.delete().where(table.c.job_id == job_id))
    tx.execute(_jobs.delete().where(_jobs.c.id == job_id))


def _pairs() -> TableValuedAlias:
    """The pairs of a job's metadata as rows: keys are anybody's text, which has no place in a path of JSON."""
    return func.json_each(_jobs.c.extras, "$.metadata").table_valued("key", "value")
