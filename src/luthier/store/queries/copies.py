"""Queries on copies of checkpoints, which belong to the resource of a name."""

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
    """Stores the copy, unless its destination has one of that checkpoint; False then, and nothing is changed."""
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
    """How many destinations the checkpoint was copied for, but for this one."""
    statement = select(func.count()).where(_sent(checkpoint_id), ~_is_to(destination))
    return int(tx.execute(statement).scalar_one())


def list_of_checkpoint(tx: Connection, checkpoint_id: str) -> list[CheckpointCopy]:
    """All copies of a checkpoint, whatever became of them."""
    statement = select(*_columns).where(_sent(checkpoint_id)).order_by(_copies.c.seq)
    return [_copy(row) for row in tx.execute(statement).mappings()]


def find(tx: Connection, resource_id: str, name: str) -> Checkpoint | None:
    """A copy that the resource has, by its model name or by its id."""
    held = _held(tx, resource_id, (_copies.c.model == name) | (_copies.c.id == name))
    return held[0] if held else None


def is_from(tx: Connection, copy_id: str, source_resource_id: str) -> bool:
    statement = select(_copies.c.id).where(_copies.c.id == copy_id, _copies.c.source_resource_id == source_resource_id)
    return tx.execute(statement).first() is not None


def held_by(resource_id: str | ColumnElement[str]) -> ColumnElement[bool]:
    """A condition on copies: those of the resource."""
    same = (func.lower(_copies.c[name]) == func.lower(_resources.c[name]) for name in _NAMES)
    return _is_live & select(_resources.c.id).where(_resources.c.id == resource_id, *same).exists()


def list_of_resource(tx: Connection, resource_id: str) -> list[Checkpoint]:
    return _held(tx, resource_id)


def delete(tx: Connection, copy_id: str) -> None:
    """Marks a copy as deleted for its resource; the source still lists it."""
    tx.execute(update(_copies).where(_copies.c.id == copy_id).values(is_deleted=True))


def delete_of_resource(tx: Connection, resource_id: str) -> None:
    """Deletes every row for the name of the resource."""
    name = select(_resources).where(_resources.c.id == resource_id)
    for row in tx.execute(name).mappings().all():
        destination = ResourceName(row["subscription"], row["resource_group"], row["account"])
        tx.execute(_copies.delete().where(_is_to(destination)))


def mark_orphaned(tx: Connection) -> None:
    """Marks copies without an owner whose checkpoint is deleted."""
    tx.execute(update(_copies).where(_is_live, ~_has_source, ~_has_destination).values(is_deleted=True))


def list_orphaned(tx: Connection) -> list[Checkpoint]:
    """Copies marked as deleted whose checkpoint is deleted too: nobody sees these rows."""
    statement = select(*_columns).where(~_is_live, ~_has_source)
    return [_copy(row).checkpoint for row in tx.execute(statement).mappings()]


def has_orphaned(tx: Connection) -> bool:
    """Whether there is a copy for the two functions above."""
    orphaned = ~_has_source & (~_is_live | ~_has_destination)
    return tx.execute(select(_copies.c.id).where(orphaned).limit(1)).first() is not None


def remove(tx: Connection, copy_id: str) -> None:
    """Deletes the row of a copy that is marked as deleted."""
    tx.execute(_copies.delete().where(_copies.c.id == copy_id, ~_is_live))


def _sent(checkpoint_id: str) -> ColumnElement[bool]:
    return _copies.c.copied_from == checkpoint_id


def _is_to(destination: ResourceName) -> ColumnElement[bool]:
    return and_(*(func.lower(_copies.c[name]) == value.lower() for name, value in asdict(destination).items()))


def _held(tx: Connection, resource_id: str, *conditions: ColumnElement[bool]) -> list[Checkpoint]:
    statement = select(*_columns).where(held_by(resource_id), *conditions).order_by(_copies.c.seq)
    return [_copy({**row, "source_resource_id": resource_id}).checkpoint for row in tx.execute(statement).mappings()]


def _copy(row: row_mapping.Row) -> CheckpointCopy:
    values = dict(row)
    destination = ResourceName(*(values.pop(name) for name in _NAMES))
    source, region = values.pop("source_resource_id"), values.pop("region")
    return CheckpointCopy(
        Checkpoint(**{**values, "resource_id": source, "files": tuple(values["files"])}), destination, region
    )
