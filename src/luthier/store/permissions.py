"""Queries on the permissions that let another resource deploy and call a checkpoint."""

from sqlalchemy import Connection, Select, insert, select

from luthier.core.models import CheckpointPermission, Resource
from luthier.store import rows, schema

_permissions = schema.checkpoint_permissions
_resources = schema.resources
_columns = [
    _permissions.c.id,
    _permissions.c.checkpoint_id,
    _permissions.c.created_at,
    _resources.c.id.label("resource_id"),
    _resources.c.subscription,
    _resources.c.resource_group,
    _resources.c.account,
]
_joined = select(*_columns).join(_resources, _permissions.c.resource_id == _resources.c.id)


def insert_permission(tx: Connection, permission: CheckpointPermission) -> None:
    tx.execute(
        insert(_permissions).values(
            id=permission.id,
            checkpoint_id=permission.checkpoint_id,
            resource_id=permission.resource.id,
            created_at=permission.created_at,
        )
    )


def of_resource(tx: Connection, checkpoint_id: str, resource_id: str) -> CheckpointPermission | None:
    found = _permissions.c.checkpoint_id == checkpoint_id, _permissions.c.resource_id == resource_id
    row = tx.execute(_joined.where(*found)).mappings().first()
    return None if row is None else _permission(row)


def list_page(
    tx: Connection, checkpoint_id: str, account: str | None, after: str | None, limit: int, ascending: bool
) -> tuple[list[CheckpointPermission], bool]:
    """One page of a checkpoint's permissions, of one account alone where it is named."""
    statement = _joined if account is None else _joined.where(_resources.c.account == account)
    scope = _permissions.c.checkpoint_id == checkpoint_id
    found, more = rows.page(tx, statement, _permissions, scope, after, limit, ascending=ascending)
    return [_permission(row) for row in found], more


def delete(tx: Connection, checkpoint_id: str, permission_id: str) -> bool:
    found = _permissions.c.checkpoint_id == checkpoint_id, _permissions.c.id == permission_id
    return tx.execute(_permissions.delete().where(*found)).rowcount == 1


def delete_of_checkpoint(tx: Connection, checkpoint_id: str) -> None:
    tx.execute(_permissions.delete().where(_permissions.c.checkpoint_id == checkpoint_id))


def checkpoints_shared_with(resource_id: str) -> Select[tuple[str]]:
    """A subquery: the ids of the checkpoints that the resource may use."""
    return select(_permissions.c.checkpoint_id).where(_permissions.c.resource_id == resource_id)


def _permission(row: rows.Row) -> CheckpointPermission:
    resource = Resource(row["resource_id"], row["subscription"], row["resource_group"], row["account"])
    return CheckpointPermission(row["id"], row["checkpoint_id"], resource, row["created_at"])
