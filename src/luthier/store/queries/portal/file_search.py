"""The search among a resource's files, for people: by purpose and by a word; and which jobs use a file."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, or_, select, union_all

from luthier.core.models import File, Job
from luthier.core.states import FilePurpose, FileStatus
from luthier.store import row_mapping, schema
from luthier.store.queries import jobs

_files = schema.files
_jobs = schema.jobs


def search(
    tx: Connection,
    resource_id: str,
    purposes: Collection[FilePurpose],
    word: str,
    after: str | None,
    limit: int,
    now: datetime,
) -> tuple[list[File], bool]:
    """One page of the resource's files that have not expired by now, newest first, and whether more follow.

    Those of one of `purposes` (none: of any) that have `word` in their name or id, without regard to case (empty: all).
    Raises InvalidRequest for an `after` that is no file of the resource.
    """
    scope: ColumnElement[bool] = _files.c.resource_id == resource_id
    statement = select(*[column for column in _files.c if column.name != "seq"]).where(_is_kept(now))
    if purposes:
        statement = statement.where(_files.c.purpose.in_(list(purposes)))
    if word:
        columns = (_files.c.id, _files.c.filename)
        statement = statement.where(or_(*(column.icontains(word, autoescape=True) for column in columns)))
    rows, more = row_mapping.page(tx, statement, _files, scope, after, limit)
    return [_file(row) for row in rows], more


def count_by_purpose(tx: Connection, resource_id: str, now: datetime) -> dict[FilePurpose, int]:
    """The number of the resource's files of each purpose; a purpose without files has no entry."""
    statement = (
        select(_files.c.purpose, func.count())
        .where(_files.c.resource_id == resource_id, _is_kept(now))
        .group_by(_files.c.purpose)
    )
    return {FilePurpose(purpose): number for purpose, number in tx.execute(statement)}


def count_jobs(tx: Connection, resource_id: str, file_ids: Collection[str]) -> dict[str, int]:
    """How many jobs of the resource read or wrote each of the files; a file of none has no entry."""
    uses = union_all(
        *(
            select(column.label("file"), _jobs.c.id.label("job")).where(
                _jobs.c.resource_id == resource_id, ~_jobs.c.is_deleted, column.in_(list(file_ids))
            )
            for column in (_jobs.c.training_file, _jobs.c.validation_file, _jobs.c.result_file)
        )
    ).subquery()
    statement = select(uses.c.file, func.count(uses.c.job.distinct())).group_by(uses.c.file)
    return {str(file): int(number) for file, number in tx.execute(statement)}


def jobs_of_file(tx: Connection, resource_id: str, file_id: str, limit: int) -> list[Job]:
    """The newest jobs of the resource that read or wrote the file."""
    uses = or_(_jobs.c.training_file == file_id, _jobs.c.validation_file == file_id, _jobs.c.result_file == file_id)
    statement = select(*[column for column in _jobs.c if column.name != "seq"]).where(
        _jobs.c.resource_id == resource_id, ~_jobs.c.is_deleted, uses
    )
    rows = tx.execute(statement.order_by(_jobs.c.seq.desc()).limit(limit)).mappings()
    return [jobs.from_row(*row.values()) for row in rows]


def _is_kept(now: datetime) -> ColumnElement[bool]:
    """The condition on files that have not expired by now."""
    return or_(_files.c.expires_at.is_(None), _files.c.expires_at > now)


def _file(row: dict[str, Any]) -> File:
    return File(**{**row, "purpose": FilePurpose(row["purpose"]), "status": FileStatus(row["status"])})
