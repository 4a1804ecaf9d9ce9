"""Queries on jobs. `move` is the only function that writes a status of an existing job, and it does so only from the
states that its caller allows. Those that write need a transaction of `Database.writing`.

A user's deletion hides a job; the lists for the supervisor still have it, those for users do not.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, TableValuedAlias, bindparam, func, insert, or_, select, update

from luthier.core.models import Job, JobError
from luthier.core.states import TERMINAL_JOB_STATUSES, JobStatus, Method
from luthier.core.training.hyperparameters import Hyperparameters, ResolvedHyperparameters
from luthier.core.webhooks.webhook_events import JOB_EVENTS
from luthier.store import delivery_schema, json_functions, row_mapping, schema
from luthier.store.queries.webhooks import outbox

_jobs = schema.jobs
_columns = [column for column in _jobs.c if column.name != "seq"]
_select = select(*_columns)
_seen = ~_jobs.c.is_deleted
_of_resource = (_jobs.c.resource_id == bindparam("resource_id")) & _seen
_STATUSES = {str(status): status for status in JobStatus}
_ERROR = [field.name for field in fields(Job)].index("error")
_OPEN = [status for status in JobStatus if status not in TERMINAL_JOB_STATUSES]


def from_row(*values: Any) -> Job:
    """The job of one row's columns, which are in the order of Job's fields, those of its hyperparameters in place of
    that field.
    """
    id, resource_id, status, *rest = values
    row = [id, resource_id, _STATUSES[status], *rest[:5], Hyperparameters(*rest[5:9]), Method(rest[9]), *rest[10:]]
    row[_ERROR] = row_mapping.error_from_json(row[_ERROR])
    return Job(*row)


_RUNNING = (_jobs.c.status == str(JobStatus.RUNNING)) | (_jobs.c.status == str(JobStatus.PAUSING))
_ENDED = or_(*[_jobs.c.status == str(status) for status in sorted(TERMINAL_JOB_STATUSES)])
_occupying = row_mapping.Read(_select.where(_RUNNING).order_by(_jobs.c.seq), from_row)
_unreleased = row_mapping.Read(_select.where(_jobs.c.has_run, _ENDED), from_row)
_one = row_mapping.Read(_select.where(_jobs.c.id == bindparam("job_id"), _of_resource), from_row)
_one_id = row_mapping.Read(select(_jobs.c.id).where(_jobs.c.id == bindparam("job_id"), _of_resource), str)
_pages = row_mapping.Pages(_select, _jobs, _of_resource, from_row)


def insert_job(tx: Connection, job: Job) -> None:
    """Inserts the row, its hyperparameters in columns of their own. IntegrityError for a taken id is an
    internal fault.
    """
    values = asdict(job)
    values |= values.pop("hyperparameters")
    tx.execute(insert(_jobs).values(values))


def get(tx: Connection, resource_id: str, job_id: str) -> Job | None:
    """The job; None if the resource has no such job, or its user deleted it."""
    return _one.first(tx, job_id=job_id, resource_id=resource_id)


def by_id(tx: Connection, job_id: str) -> Job | None:
    """The job of any resource, hidden or not; None if there is no row."""
    row = tx.execute(_select.where(_jobs.c.id == job_id)).first()
    return None if row is None else from_row(*row)


def exists(tx: Connection, resource_id: str, job_id: str) -> bool:
    """Whether the resource has such a job that its user has not deleted."""
    return _one_id.first(tx, job_id=job_id, resource_id=resource_id) is not None


def list_page(
    tx: Connection, resource_id: str, after: str | None, limit: int, metadata: Mapping[str, str] | None
) -> tuple[list[Job], bool]:
    """One page of the resource's jobs, newest first, and whether more follow: those whose metadata has all pairs of
    `metadata`, {} being any job; None: those that have no metadata at all.

    Raises InvalidRequest, the caller's 400, if `after` is not a job of the resource.
    """
    if metadata == {}:
        return _pages.page(tx, after, limit, resource_id=resource_id)
    statement = _select
    if metadata is None:
        statement = statement.where(~select(_pairs()).exists())
    for key, value in (metadata or {}).items():
        pairs = _pairs()
        statement = statement.where(select(pairs).where(pairs.c.key == key, pairs.c.value == value).exists())
    scope = (_jobs.c.resource_id == resource_id) & _seen
    rows, more = row_mapping.page(tx, statement, _jobs, scope, after, limit)
    return [from_row(*row.values()) for row in rows], more


def list_open(tx: Connection) -> list[Job]:
    """Every job that has not ended, of all resources, hidden ones included, oldest first."""
    return list_in(tx, _OPEN)


def list_in(tx: Connection, statuses: Collection[JobStatus]) -> list[Job]:
    """Every job in one of the statuses, of all resources, hidden ones included, oldest first."""
    statement = _select.where(_jobs.c.status.in_(statuses)).order_by(_jobs.c.seq)
    return [from_row(*row) for row in tx.execute(statement)]


def list_occupying(tx: Connection) -> list[Job]:
    """Every job that has a place on a node, running or pausing, of all resources, oldest first."""
    return _occupying.all(tx)


def first_in(tx: Connection, status: JobStatus) -> Job | None:
    """The oldest job in the status, of all resources, read without the others; None if there is none."""
    row = tx.execute(_select.where(_jobs.c.status == status).order_by(_jobs.c.seq).limit(1)).first()
    return None if row is None else from_row(*row)


def count_open(tx: Connection) -> dict[JobStatus, int]:
    """The number of jobs of all resources in each state that is not terminal; a state without jobs has no entry. Hidden
    jobs are not counted.
    """
    statement = select(_jobs.c.status, func.count()).where(_jobs.c.status.in_(_OPEN), _seen).group_by(_jobs.c.status)
    return {_STATUSES[status]: count for status, count in tx.execute(statement)}


def list_unreleased(tx: Connection) -> list[Job]:
    """Every ended job, hidden ones included, whose process and run directory are still to be removed."""
    return _unreleased.all(tx)


def move(tx: Connection, job_id: str, sources: Collection[JobStatus], target: JobStatus, **values: Any) -> bool:
    """Writes a status, with `values` of further columns by name, if the job is in one of `sources`. False if it is in
    another or does not exist: nothing is written then, and the caller must not record an event of it. A last status
    comes with its `finished_at`, and its webhook event is put into the outbox in the same transaction.
    """
    if isinstance(error := values.get("error"), JobError):
        values["error"] = row_mapping.error_to_json(error)
    statement = update(_jobs).where(_jobs.c.id == job_id, _jobs.c.status.in_(list(sources)))
    if tx.execute(statement.values(status=target, **values)).rowcount != 1:
        return False
    if target in JOB_EVENTS:
        owner = select(_jobs.c.resource_id).where(_jobs.c.id == job_id)
        outbox.insert_event(tx, owner, JOB_EVENTS[target], job_id, values["finished_at"])
    return True


def set_resolved(tx: Connection, job_id: str, resolved: ResolvedHyperparameters, peak_memory_bytes: int | None) -> None:
    """Replaces the requested hyperparameters by the numbers that validation has resolved them to, and records what the
    run is expected to take; None if that is not known.
    """
    values = asdict(resolved) | {"peak_memory_bytes": peak_memory_bytes}
    tx.execute(update(_jobs).where(_jobs.c.id == job_id).values(values))


def set_handle(tx: Connection, job_id: str, handle: str | None) -> None:
    """Records by which handle the executor finds the job's trainer; None if no trainer runs."""
    tx.execute(update(_jobs).where(_jobs.c.id == job_id).values(handle=handle))


def set_started_at(tx: Connection, job_id: str, started_at: datetime) -> None:
    """Moves the start of training, by which the finish is estimated: time between two attempts does not count."""
    tx.execute(update(_jobs).where(_jobs.c.id == job_id).values(started_at=started_at))


def set_released(tx: Connection, job_id: str) -> None:
    """Records that neither process nor run directory is left; `list_unreleased` no longer has the job."""
    tx.execute(update(_jobs).where(_jobs.c.id == job_id).values(handle=None, has_run=False))


def set_progress(
    tx: Connection, job_id: str, absorbed_bytes: int, started_at: datetime | None, estimated_finish: datetime | None
) -> None:
    """Writes up to which byte of events.jsonl the run's events are stored, and the times derived from them; a time of
    None leaves what the row has.
    """
    values = {"started_at": started_at, "estimated_finish": estimated_finish}
    present = {name: value for name, value in values.items() if value is not None}
    tx.execute(update(_jobs).where(_jobs.c.id == job_id).values(absorbed_bytes=absorbed_bytes, **present))


def hide(tx: Connection, job_id: str) -> None:
    """Hides a job from its user; its row stays for the supervisor, which still has to remove its run."""
    tx.execute(update(_jobs).where(_jobs.c.id == job_id).values(is_deleted=True))


def is_hidden(tx: Connection, job_id: str) -> bool:
    """Whether the job's user has deleted it while its row is kept; False if there is no row."""
    return tx.execute(select(_jobs.c.id).where(_jobs.c.id == job_id, _jobs.c.is_deleted)).first() is not None


def delete(tx: Connection, job_id: str) -> None:
    """Deletes a job's row with its events, attempts and sink cursors. Its checkpoints must be gone: their reference to
    it raises IntegrityError, an internal fault.
    """
    for table in (schema.events, schema.attempts, delivery_schema.sink_cursors):
        tx.execute(table.delete().where(table.c.job_id == job_id))
    tx.execute(_jobs.delete().where(_jobs.c.id == job_id))


def _pairs() -> TableValuedAlias:
    """The pairs of a job's metadata as rows: keys are user text, which must not be part of a JSON path."""
    return json_functions.json_pairs(_jobs.c.extras, "metadata").table_valued("key", "value")
