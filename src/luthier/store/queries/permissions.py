"""Queries on the permissions that let another resource deploy and call a checkpoint. One is given to an account's name,
compared without regard to case, whether a resource has that name or not.
"""

from sqlalchemy import Connection, Select, func, insert, select

from luthier.core.models import CheckpointPermission
from luthier.store import row_mapping, schema

_permissions = schema.checkpoint_permissions
_resources = schema.resources
_columns = [
    _permissions.c.id,
    _permissions.c.checkpoint_id,
    _permissions.c.account,
    _permissions.c.created_at,
]
_account = func.lower(_permissions.c.account)


def insert_permission(tx: Connection, permission: CheckpointPermission) -> None:
    """Inserts the row. IntegrityError for a second one of checkpoint and account is an internal fault."""
    tx.execute(
        insert(_permissions).values(
            id=permission.id,
            checkpoint_id=permission.checkpoint_id,
            account=permission.account,
            created_at=permission.created_at,
        )
    )


def of_account(tx: Connection, checkpoint_id: str, account: str) -> CheckpointPermission | None:
    """The permission of an account's name to the checkpoint, without regard to case; None if it has none."""
    condition = _permissions.c.checkpoint_id == checkpoint_id, _account == account.lower()
    row = tx.execute(select(*_columns).where(*condition)).mappings().first()
    return None if row is None else _permission(row)


def list_page(
    tx: Connection, checkpoint_id: str, account: str | None, after: str | None, limit: int, ascending: bool
) -> tuple[list[CheckpointPermission], bool]:
    """One page of a checkpoint's permissions and whether more follow, only that of one account if it is named. Raises
    InvalidRequest, the caller's 400, if `after` is not a permission of the checkpoint.
    """
    statement = select(*_columns)
    if account is not None:
        statement = statement.where(_account == account.lower())
    scope = _permissions.c.checkpoint_id == checkpoint_id
    rows, more = row_mapping.page(tx, statement, _permissions, scope, after, limit, ascending=ascending)
    return [_permission(row) for row in rows], more


def delete(tx: Connection, checkpoint_id: str, permission_id: str) -> bool:
    """Deletes a permission of that checkpoint; False if there was none."""
    condition = _permissions.c.checkpoint_id == checkpoint_id, _permissions.c.id == permission_id
    return tx.execute(_permissions.delete().where(*condition)).rowcount == 1


def delete_of_checkpoint(tx: Connection, checkpoint_id: str) -> None:
    """Deletes every permission to the checkpoint: nobody else may use it from then on."""
    tx.execute(_permissions.delete().where(_permissions.c.checkpoint_id == checkpoint_id))


def delete_of_account(tx: Connection, account: str) -> None:
    """Deletes every permission for an account's name, of all checkpoints."""
    tx.execute(_permissions.delete().where(_account == account.lower()))


def checkpoints_shared_with(resource_id: str) -> Select[tuple[str]]:
    """A subquery: the ids of the checkpoints that others share with the resource. Not executed here."""
    account = select(func.lower(_resources.c.account)).where(_resources.c.id == resource_id).scalar_subquery()
    return select(_permissions.c.checkpoint_id).where(_account == account)


def count(tx: Connection, checkpoint_id: str) -> int:
    """How many permissions the checkpoint has."""
    statement = select(func.count()).where(_permissions.c.checkpoint_id == checkpoint_id)
    return int(tx.execute(statement).scalar_one())


def _permission(row: row_mapping.Row) -> CheckpointPermission:
    return CheckpointPermission(row["id"], row["checkpoint_id"], row["account"], row["created_at"])
