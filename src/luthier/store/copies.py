"""Queries on copies of checkpoints: whole models in a resource that did not train them."""

from dataclasses import asdict

from sqlalchemy import ColumnElement, Connection, insert, select

from luthier.core.models import Checkpoint, CheckpointCopy
from luthier.store import rows, schema

_copies = schema.checkpoint_copies
_columns = [column for column in _copies.c if column.name != "seq"]


def insert_copy(tx: Connection, copy: CheckpointCopy) -> None:
    values = asdict(copy.checkpoint)
    tx.execute(insert(_copies).values(source_resource_id=copy.source_resource_id, region=copy.region, **values))


def find(tx: Connection, resource_id: str, name: str) -> Checkpoint | None:
    """A copy that the resource has, by its model name or by its id."""
    found = _all(tx, (_copies.c.resource_id == resource_id) & ((_copies.c.model == name) | (_copies.c.id == name)))
    return found[0].checkpoint if found else None


def is_from(tx: Connection, copy_id: str, source_resource_id: str) -> bool:
    found = select(_copies.c.id).where(_copies.c.id == copy_id, _copies.c.source_resource_id == source_resource_id)
    return tx.execute(found).first() is not None


def list_of_checkpoint(tx: Connection, checkpoint_id: str) -> list[CheckpointCopy]:
    return _all(tx, _copies.c.copied_from == checkpoint_id)


def list_of_resource(tx: Connection, resource_id: str) -> list[Checkpoint]:
    return [copy.checkpoint for copy in _all(tx, _copies.c.resource_id == resource_id)]


def delete(tx: Connection, copy_id: str) -> None:
    tx.execute(_copies.delete().where(_copies.c.id == copy_id))


def _all(tx: Connection, condition: ColumnElement[bool]) -> list[CheckpointCopy]:
    statement = select(*_columns).where(condition).order_by(_copies.c.seq)
    return [_copy(row) for row in tx.execute(statement).mappings()]


def _copy(row: rows.Row) -> CheckpointCopy:
    values = dict(row)
    source, region = values.pop("source_resource_id"), values.pop("region")
    return CheckpointCopy(Checkpoint(**{**values, "files": tuple(values["files"])}), source, region)
