"""Queries on checkpoints: the deployable models of jobs, the finished ones' own included. Only rows; their bytes are in
the blob store. The functions that write need a transaction of `Database.writing`.
"""

from dataclasses import asdict

from sqlalchemy import ColumnElement, Connection, bindparam, func, insert, select, update

from luthier.core.models import Checkpoint
from luthier.store import row_mapping, schema
from luthier.store.queries import copies, permissions

_checkpoints = schema.checkpoints
_columns = [column for column in _checkpoints.c if column.name != "seq"]


def _pair(count: int, newest: int) -> tuple[int, int]:
    return count, newest


_mark = row_mapping.Read(
    select(func.count(), func.coalesce(func.max(_checkpoints.c.seq), 0)).where(
        _checkpoints.c.job_id == bindparam("job_id")
    ),
    _pair,
)


def insert_checkpoint(tx: Connection, checkpoint: Checkpoint) -> None:
    """Inserts the row of a checkpoint of one's own, never a copy. IntegrityError for a model name or a step of the job
    that has a row already is an internal fault.
    """
    values = asdict(checkpoint)
    assert values.pop("copied_from") is None, "copies have a table of their own"
    tx.execute(insert(_checkpoints).values(values))


def find(tx: Connection, resource_id: str, name: str) -> Checkpoint | None:
    """A checkpoint by its model name or its id, as the resource may use it: its own, else a copy that it has, else one
    that is shared with it; None if it has no such checkpoint.
    """
    named = (_checkpoints.c.model == name) | (_checkpoints.c.id == name)
    own = _first(tx, named & (_checkpoints.c.resource_id == resource_id))
    shared = permissions.checkpoints_shared_with(resource_id)
    return own or copies.find(tx, resource_id, name) or _first(tx, named & _checkpoints.c.id.in_(shared))


def of_job(tx: Connection, job_id: str, name: str) -> Checkpoint | None:
    """A checkpoint of that job by its id or its model name; None if the job has no such checkpoint."""
    named = (_checkpoints.c.model == name) | (_checkpoints.c.id == name)
    return _first(tx, named & (_checkpoints.c.job_id == job_id))


def of_step(tx: Connection, job_id: str, step: int) -> Checkpoint | None:
    """The checkpoint that the job saved after the step; None if it has none, or it was deleted."""
    return _first(tx, (_checkpoints.c.job_id == job_id) & (_checkpoints.c.step == step))


def list_page(tx: Connection, job_id: str, after: str | None, limit: int) -> tuple[list[Checkpoint], bool]:
    """One page of a job's checkpoints, newest first, and whether more follow. Raises InvalidRequest, the caller's 400,
    if `after` is not an id of this list.
    """
    scope = _checkpoints.c.job_id == job_id
    rows, more = row_mapping.page(tx, select(*_columns), _checkpoints, scope, after, limit)
    return [_checkpoint(row) for row in rows], more


def list_of_job(tx: Connection, job_id: str) -> list[Checkpoint]:
    """Every checkpoint of a job, oldest first; empty if there is none."""
    return _all(tx, _checkpoints.c.job_id == job_id)


def mark_of_job(tx: Connection, job_id: str) -> tuple[int, int]:
    """How many checkpoints a job has, and a number that grows with each that is inserted: what changes with the list,
    their names aside.
    """
    return _mark.first(tx, job_id=job_id) or (0, 0)


def list_of_resource(tx: Connection, resource_id: str) -> list[Checkpoint]:
    """All that the resource may deploy: its own, its copies, and those that others share with it, each oldest first."""
    return list_held(tx, resource_id) + list_shared(tx, resource_id)


def list_shared(tx: Connection, resource_id: str) -> list[Checkpoint]:
    """Those that others share with the resource, oldest first."""
    return _all(tx, _checkpoints.c.id.in_(permissions.checkpoints_shared_with(resource_id)))


def list_held(tx: Connection, resource_id: str) -> list[Checkpoint]:
    """Its own and its copies, each oldest first: those whose bytes are the resource's."""
    return _all(tx, _checkpoints.c.resource_id == resource_id) + copies.list_of_resource(tx, resource_id)


def rename(tx: Connection, checkpoint_id: str, model: str) -> None:
    """Changes the model name under which the checkpoint is found; deployments that name the old one are not changed.
    Gives a job's last one the fine-tuned model's plain name.
    """
    tx.execute(update(_checkpoints).where(_checkpoints.c.id == checkpoint_id).values(model=model))


def delete(tx: Connection, checkpoint_id: str) -> None:
    """Deletes a checkpoint's row, and the permissions to it; copies for others and blobs stay."""
    permissions.delete_of_checkpoint(tx, checkpoint_id)
    tx.execute(_checkpoints.delete().where(_checkpoints.c.id == checkpoint_id))


def _first(tx: Connection, condition: ColumnElement[bool]) -> Checkpoint | None:
    """A checkpoint that meets the condition; None if none does."""
    row = tx.execute(select(*_columns).where(condition)).mappings().first()
    return None if row is None else _checkpoint(row)


def _all(tx: Connection, condition: ColumnElement[bool]) -> list[Checkpoint]:
    """Every checkpoint that meets the condition, oldest first."""
    statement = select(*_columns).where(condition).order_by(_checkpoints.c.seq)
    return [_checkpoint(row) for row in tx.execute(statement).mappings()]


def _checkpoint(row: row_mapping.Row) -> Checkpoint:
    return Checkpoint(**{**row, "files": tuple(row["files"])})
