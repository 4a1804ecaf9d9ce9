"""Queries on copies of checkpoints. A copy belongs to the resource whose name (subscription, resource group, account)
is its destination; one of that name may not exist yet. Names are compared without regard to case.

A copy that its resource deletes is only marked: the source still lists it. Functions that write need a transaction of
`Database.writing`; none touches the copy's blobs.
"""

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import ColumnElement, Connection, and_, func, insert, select, update

from luthier.core.models import Checkpoint, CheckpointCopy, ResourceName
from luthier.store import row_mapping, schema

_copies = schema.checkpoint_copies
_resources = schema.resources
_NAMES = ("subscription", "resource_group", "account")
_columns = [column for column in _copies.c if column.name not in ("seq", "is_deleted")]
_is_live = _copies.c.is_deleted.is_(False)
_has_destination = (
    select(_resources.c.id).where(*(func.lower(_copies.c[name]) == func.lower(_resources.c[name]) for name in _NAMES))
).exists()
_has_source = select(schema.checkpoints.c.id).where(schema.checkpoints.c.id == _copies.c.copied_from).exists()


def put_copy(tx: Connection, copy: CheckpointCopy) -> bool:
    """Stores the copy, also where the destination has deleted an earlier one of that checkpoint, whose row it takes
    over. False, and nothing is changed, if the destination still has one.
    """
    values = {**asdict(copy.checkpoint), "region": copy.region}
    values["source_resource_id"] = values.pop("resource_id")
    same = _sent(str(copy.checkpoint.copied_from)) & _is_to(copy.destination)
    existing = tx.execute(select(_copies.c.is_deleted).where(same)).first()
    if existing is None:
        tx.execute(insert(_copies).values(**asdict(copy.destination), **values))
    elif existing.is_deleted:  # same place in the list, same region: the source sees no difference
        del values["region"]
        tx.execute(update(_copies).where(same).values(is_deleted=False, **values))
    return existing is None or bool(existing.is_deleted)


def count_for_others(tx: Connection, checkpoint_id: str, destination: ResourceName) -> int:
    """For how many destinations other than this one the checkpoint was copied, copies that were deleted
    there included.
    """
    statement = select(func.count()).where(_sent(checkpoint_id), ~_is_to(destination))
    return int(tx.execute(statement).scalar_one())


def list_of_checkpoint(tx: Connection, checkpoint_id: str) -> list[CheckpointCopy]:
    """All copies of a checkpoint, whatever became of them, oldest first: what the source may see."""
    statement = select(*_columns).where(_sent(checkpoint_id)).order_by(_copies.c.seq)
    return [_copy(row) for row in tx.execute(statement).mappings()]


def find(tx: Connection, resource_id: str, name: str) -> Checkpoint | None:
    """A copy that the resource has, by its model name or its id; None if it has none or has deleted it."""
    held = _held(tx, resource_id, (_copies.c.model == name) | (_copies.c.id == name))
    return held[0] if held else None


def is_from(tx: Connection, copy_id: str, source_resource_id: str) -> bool:
    """Whether the copy was given by that resource; False if there is no such copy."""
    statement = select(_copies.c.id).where(_copies.c.id == copy_id, _copies.c.source_resource_id == source_resource_id)
    return tx.execute(statement).first() is not None


def held_by(resource_id: str | ColumnElement[str]) -> ColumnElement[bool]:
    """An SQL condition on rows of copies: not deleted, and for the name of the resource. `resource_id` may be a column
    of an outer query.
    """
    same = (func.lower(_copies.c[name]) == func.lower(_resources.c[name]) for name in _NAMES)
    return _is_live & select(_resources.c.id).where(_resources.c.id == resource_id, *same).exists()


def list_of_resource(tx: Connection, resource_id: str) -> list[Checkpoint]:
    """Every copy that the resource has, oldest first, each with the resource as its owner."""
    return _held(tx, resource_id)


def delete(tx: Connection, copy_id: str) -> None:
    """Marks a copy as deleted for its resource; the source still lists it, and its blobs are the caller's to delete."""
    tx.execute(update(_copies).where(_copies.c.id == copy_id).values(is_deleted=True))


def delete_of_resource(tx: Connection, resource_id: str) -> None:
    """Deletes every row for the name of the resource, deleted ones included: whoever gets the name next gets none."""
    name = select(_resources).where(_resources.c.id == resource_id)
    for row in tx.execute(name).mappings().all():
        destination = ResourceName(row["subscription"], row["resource_group"], row["account"])
        tx.execute(_copies.delete().where(_is_to(destination)))


def existing_bytes(tx: Connection, checkpoint_ids: Sequence[str]) -> set[str]:
    """Those of the checkpoints that still exist, or of which a copy exists: copies have the same bytes."""
    own = select(schema.checkpoints.c.id).where(schema.checkpoints.c.id.in_(checkpoint_ids))
    copied = select(_copies.c.copied_from).where(_copies.c.copied_from.in_(checkpoint_ids), _is_live)
    return {*tx.execute(own).scalars(), *tx.execute(copied).scalars()}


def mark_orphaned(tx: Connection) -> None:
    """Marks as deleted the copies whose checkpoint is deleted and whose name no resource has."""
    tx.execute(update(_copies).where(_is_live, ~_has_source, ~_has_destination).values(is_deleted=True))


def list_orphaned(tx: Connection) -> list[Checkpoint]:
    """Copies marked as deleted whose checkpoint is deleted too: nobody sees these rows, and their blobs can go."""
    statement = select(*_columns).where(~_is_live, ~_has_source)
    return [_copy(row).checkpoint for row in tx.execute(statement).mappings()]


def has_orphaned(tx: Connection) -> bool:
    """Whether `mark_orphaned` or `list_orphaned` would find a row: a check that needs no write transaction."""
    orphaned = ~_has_source & (~_is_live | ~_has_destination)
    return tx.execute(select(_copies.c.id).where(orphaned).limit(1)).first() is not None


def remove(tx: Connection, copy_id: str) -> None:
    """Deletes the row of a copy that is marked as deleted; does nothing to any other."""
    tx.execute(_copies.delete().where(_copies.c.id == copy_id, ~_is_live))


def _sent(checkpoint_id: str) -> ColumnElement[bool]:
    """The condition on copies of that checkpoint."""
    return _copies.c.copied_from == checkpoint_id


def _is_to(destination: ResourceName) -> ColumnElement[bool]:
    """The condition on copies for that name, without regard to case."""
    return and_(*(func.lower(_copies.c[name]) == value.lower() for name, value in asdict(destination).items()))


def _held(tx: Connection, resource_id: str, *conditions: ColumnElement[bool]) -> list[Checkpoint]:
    """The copies that the resource has and that meet the conditions, oldest first, each with the
    resource as its owner.
    """
    statement = select(*_columns).where(held_by(resource_id), *conditions).order_by(_copies.c.seq)
    return [_copy({**row, "source_resource_id": resource_id}).checkpoint for row in tx.execute(statement).mappings()]


def _copy(row: row_mapping.Row) -> CheckpointCopy:
    """The copy of a row; its checkpoint's `resource_id` is what the row has as `source_resource_id`."""
    values = dict(row)
    destination = ResourceName(*(values.pop(name) for name in _NAMES))
    source, region = values.pop("source_resource_id"), values.pop("region")
    return CheckpointCopy(
        Checkpoint(**{**values, "resource_id": source, "files": tuple(values["files"])}), destination, region
    )
