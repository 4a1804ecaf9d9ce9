"""The search among a resource's tuned models, and what a model came from and led to."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, or_, select

from luthier.core import ids
from luthier.core.models import Checkpoint, Job
from luthier.store import row_mapping, schema
from luthier.store.queries import jobs

_checkpoints = schema.checkpoints
_columns = [column for column in _checkpoints.c if column.name != "seq"]
_jobs = schema.jobs
_job_columns = [column for column in _jobs.c if column.name != "seq"]


def search(
    tx: Connection, resource_id: str, finals: bool | None, word: str, after: str | None, limit: int
) -> tuple[list[Checkpoint], bool]:
    """One page of the resource's own tuned models, newest first, and whether more follow.

    With `finals` those of finished jobs, without it the checkpoints on the way, with None both; that have `word` in
    their name, id, base model or job's id, without regard to case. Raises InvalidRequest for an `after` that is none.
    """
    scope: ColumnElement[bool] = _checkpoints.c.resource_id == resource_id
    statement = select(*_columns)
    if finals is not None:
        statement = statement.where(_is_final() if finals else ~_is_final())
    if word:
        columns = (_checkpoints.c.model, _checkpoints.c.id, _checkpoints.c.base_model, _checkpoints.c.job_id)
        statement = statement.where(or_(*(column.icontains(word, autoescape=True) for column in columns)))
    rows, more = row_mapping.page(tx, statement, _checkpoints, scope, after, limit)
    return [_checkpoint(row) for row in rows], more


def counts(tx: Connection, resource_id: str) -> tuple[int, int]:
    """How many models of finished jobs the resource has, and how many checkpoints on the way."""
    statement = select(func.count(), func.count().filter(_is_final())).where(_checkpoints.c.resource_id == resource_id)
    total, finals = tx.execute(statement).one()
    return int(finals), int(total) - int(finals)


def jobs_by_id(tx: Connection, resource_id: str, job_ids: Collection[str]) -> Mapping[str, Job]:
    """The resource's jobs among these ids; one that its user has deleted has no entry."""
    scope = (_jobs.c.resource_id == resource_id) & ~_jobs.c.is_deleted
    statement = select(*_job_columns).where(scope, _jobs.c.id.in_(list(job_ids)))
    found = [jobs.from_row(*row) for row in tx.execute(statement)]
    return {job.id: job for job in found}


def continuing(
    tx: Connection, resource_id: str, models: Collection[str], base_model: str | None, limit: int
) -> tuple[list[Job], int]:
    """The newest `limit` jobs that go on from one of the models, or that begin at the base model, and their number."""
    origin: ColumnElement[bool] = _jobs.c.parent_model.in_(list(models))
    if base_model is not None:
        origin = _jobs.c.parent_model.is_(None) & (_jobs.c.base_model == base_model)
    scope = (_jobs.c.resource_id == resource_id) & ~_jobs.c.is_deleted & origin
    number = tx.execute(select(func.count()).select_from(_jobs).where(scope)).scalar_one()
    statement: Any = select(*_job_columns).where(scope).order_by(_jobs.c.seq.desc()).limit(limit)
    return [jobs.from_row(*row) for row in tx.execute(statement)], int(number)


def _is_final() -> ColumnElement[bool]:
    """The condition that a checkpoint has its model's plain name."""
    return ~_checkpoints.c.model.contains(ids.CHECKPOINT_MARK, autoescape=True)


def _checkpoint(row: row_mapping.Row) -> Checkpoint:
    return Checkpoint(**{**row, "files": tuple(row["files"])})
