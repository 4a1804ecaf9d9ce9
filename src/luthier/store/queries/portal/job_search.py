"""The search among a resource's jobs, for people: by state and by a word."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, or_, select

from luthier.core.models import Event, Job
from luthier.core.states import EventLevel, EventType, JobStatus
from luthier.store import row_mapping, schema
from luthier.store.queries import jobs

_jobs = schema.jobs


def search(
    tx: Connection, resource_id: str, statuses: Collection[JobStatus], word: str, after: str | None, limit: int
) -> tuple[list[Job], bool]:
    """One page of the resource's jobs, newest first, and whether more follow.

    Those in one of `statuses` (none: in any) that have `word` in their id, suffix, base model, model or a file's name
    or id, without regard to case (empty: all). Raises InvalidRequest for an `after` that is no job of the resource.
    """
    scope: ColumnElement[bool] = (_jobs.c.resource_id == resource_id) & ~_jobs.c.is_deleted
    statement = select(*[column for column in _jobs.c if column.name != "seq"])
    if statuses:
        statement = statement.where(_jobs.c.status.in_(list(statuses)))
    if word:
        statement = statement.where(_has_word(resource_id, word))
    rows, more = row_mapping.page(tx, statement, _jobs, scope, after, limit)
    return [jobs.from_row(*row.values()) for row in rows], more


def count_by_status(tx: Connection, resource_id: str) -> dict[JobStatus, int]:
    """The number of the resource's jobs in each state; a state without jobs has no entry."""
    statement = (
        select(_jobs.c.status, func.count())
        .where(_jobs.c.resource_id == resource_id, ~_jobs.c.is_deleted)
        .group_by(_jobs.c.status)
    )
    return {JobStatus(status): number for status, number in tx.execute(statement)}


def _has_word(resource_id: str, word: str) -> ColumnElement[bool]:
    """The condition on jobs that contain a word; `%` and `_` of the word stand for themselves."""
    files = schema.files
    named: Any = select(files.c.id).where(
        files.c.resource_id == resource_id, files.c.filename.icontains(word, autoescape=True)
    )
    columns = (_jobs.c.id, _jobs.c.suffix, _jobs.c.base_model, _jobs.c.requested_model, _jobs.c.fine_tuned_model)
    file_columns = (_jobs.c.training_file, _jobs.c.validation_file)
    return or_(
        *(column.icontains(word, autoescape=True) for column in (*columns, *file_columns)),
        *(column.in_(named) for column in file_columns),
    )


def file_names(tx: Connection, resource_id: str, ids: Collection[str]) -> dict[str, str]:
    """The names of the resource's files among `ids`, by id; a deleted file has no entry."""
    files = schema.files
    named = (files.c.resource_id == resource_id) & files.c.id.in_(list(ids))
    return {str(row.id): str(row.filename) for row in tx.execute(select(files.c.id, files.c.filename).where(named))}


def message_page(tx: Connection, job_id: str, after: str | None, limit: int) -> tuple[list[Event], bool]:
    """A page of a job's events of type message, newest first, and whether more follow.

    Raises InvalidRequest for an `after` that is no event of the job.
    """
    events = schema.events
    statement = select(events.c.id, events.c.created_at, events.c.level, events.c.message)
    statement = statement.where(events.c.type == EventType.MESSAGE)
    rows, more = row_mapping.page(tx, statement, events, events.c.job_id == job_id, after, limit)
    found = [
        Event(row["id"], job_id, row["created_at"], EventLevel(row["level"]), EventType.MESSAGE, row["message"])
        for row in rows
    ]
    return found, more
