"""Queries on resources (tenants) and their keys. A key is stored as the sha256 of its text, never as the text.

A deleted resource loses its keys at once; its row stays, with `deleted_at`, until all that it contains is removed. The
functions that write need a transaction of `Database.writing`.
"""

import hmac
from datetime import datetime

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    Table,
    and_,
    delete,
    false,
    func,
    insert,
    or_,
    select,
    update,
)

from luthier.core.models import ApiKey, Principal, Resource
from luthier.core.roles import Role
from luthier.store import delivery_schema, inference_schema, row_mapping, schema
from luthier.store.queries import copies, permissions

_resources = schema.resources
_keys = schema.api_keys


def insert_resource(tx: Connection, resource: Resource, created_at: datetime) -> None:
    """Inserts the row. IntegrityError for a taken account name is an internal fault."""
    tx.execute(
        insert(_resources).values(
            id=resource.id,
            subscription=resource.subscription,
            resource_group=resource.resource_group,
            account=resource.account,
            created_at=created_at,
        )
    )


def get(tx: Connection, resource_id: str) -> Resource | None:
    """The resource by its id, also one that is being deleted; None if there is none."""
    return _first(tx, _resources.c.id == resource_id)


def of_account(tx: Connection, subscription: str, group: str, account: str) -> Resource | None:
    """A resource by the parts of its id in the control plane, which compares them without regard to case. None if there
    is none, or it is being deleted.
    """
    names = ((_resources.c.subscription, subscription), (_resources.c.resource_group, group))
    same = [func.lower(column) == value.lower() for column, value in (*names, (_resources.c.account, account))]
    return _first(tx, and_(*same, _resources.c.deleted_at.is_(None)))


def find(tx: Connection, account: str, *, deleted: bool = False) -> Resource | None:
    """A resource by the name of its account, without regard to case; None if there is none. One that is being deleted
    is found only with `deleted`.
    """
    named = func.lower(_resources.c.account) == account.lower()
    return _first(tx, named if deleted else named & _resources.c.deleted_at.is_(None))


def list_all(tx: Connection) -> list[tuple[Resource, datetime]]:
    """Every resource with its creation time, oldest first."""
    statement = select(_resources).where(_resources.c.deleted_at.is_(None)).order_by(_resources.c.created_at)
    return [(_resource(row), row["created_at"]) for row in tx.execute(statement).mappings()]


def created_at(tx: Connection, resource_id: str) -> datetime:
    """When the resource was created. NoResultFound without such a row is an internal fault."""
    statement = select(_resources.c.created_at).where(_resources.c.id == resource_id)
    created: datetime = tx.execute(statement).scalar_one()
    return created


def list_deleted(tx: Connection) -> list[Resource]:
    """Every deleted resource whose contents are still to be removed."""
    statement = select(_resources).where(_resources.c.deleted_at.is_not(None))
    return [_resource(row) for row in tx.execute(statement).mappings()]


def set_deleted(tx: Connection, resource_id: str, now: datetime) -> None:
    """Marks the resource as deleted; takes its keys away, and what others have permitted to its name: the next tenant
    of that name is another one. Its contents stay for the background work to remove.
    """
    tx.execute(update(_resources).where(_resources.c.id == resource_id).values(deleted_at=now))
    _delete_permissions(tx, resource_id)
    tx.execute(_keys.delete().where(_keys.c.resource_id == resource_id))


def count_contents(tx: Connection, resource_id: str) -> dict[str, int]:
    """How many rows of each table belong to the resource, by table; tables without any are left out, so empty means
    that it can go. Keys and quotas are not counted, nor are batches and responses: nobody can delete a batch, or list
    responses, and the files of a batch are counted.
    """
    counts = {}
    uncounted = (_resources, _keys, schema.quotas, inference_schema.batches, inference_schema.responses)
    for table in delivery_schema.metadata.sorted_tables:
        if table not in uncounted and "resource_id" in table.c:
            statement = select(func.count()).select_from(table).where(table.c.resource_id == resource_id)
            counts[table.name] = tx.execute(statement).scalar_one()
    held_copies = select(func.count()).select_from(schema.checkpoint_copies).where(copies.held_by(resource_id))
    counts[schema.checkpoint_copies.name] = tx.execute(held_copies).scalar_one()
    return {name: count for name, count in counts.items() if count}


def remove(tx: Connection, resource_id: str) -> None:
    """Deletes the resource and every row of any table that belongs to it: directly, through another row or by its name.

    What is for its name goes in the same transaction: whoever gets the name next gets nothing with it. Blobs are not
    touched: the caller has deleted them.
    """
    _delete_permissions(tx, resource_id)
    copies.delete_of_resource(tx, resource_id)
    for table in reversed(delivery_schema.metadata.sorted_tables):
        tx.execute(delete(table).where(_belongs(table, resource_id)))


def insert_key(
    tx: Connection, sha256: str, resource_id: str, name: str, created_at: datetime, role: Role = Role.OWNER
) -> None:
    """Inserts a key by its hash. IntegrityError for a name or hash that has a row already is an internal fault."""
    values = {"sha256": sha256, "resource_id": resource_id, "name": name, "created_at": created_at, "role": role}
    tx.execute(insert(_keys).values(values))


def delete_key(tx: Connection, resource_id: str, name: str) -> bool:
    """Deletes the row, so that the key opens nothing from the commit on; False if there was none."""
    statement = _keys.delete().where(_keys.c.resource_id == resource_id, _keys.c.name == name)
    return tx.execute(statement).rowcount == 1


def get_key(tx: Connection, resource_id: str, name: str) -> ApiKey | None:
    """Name, role and creation time of a key; None if the resource has none of that name."""
    return next((key for key in list_keys(tx, resource_id) if key.name == name), None)


def list_keys(tx: Connection, resource_id: str) -> list[ApiKey]:
    """Name, role and creation time of the resource's keys, by name; their text is stored nowhere."""
    statement = select(_keys).where(_keys.c.resource_id == resource_id).order_by(_keys.c.name)
    return [ApiKey(row["name"], Role(row["role"]), row["created_at"]) for row in tx.execute(statement).mappings()]


def principal_of_key(tx: Connection, sha256: str) -> Principal | None:
    """Whom a key authenticates, by the sha256 of its text; None for an unknown key.

    The lookup is by hash, so its timing tells nothing about the key; the result is compared once more in constant time,
    so that this does not depend on how an index compares.
    """
    joined: Select[tuple[object, ...]] = select(_keys.c.sha256, _keys.c.name, _keys.c.role, *_resources.c).join(
        _resources, _keys.c.resource_id == _resources.c.id
    )
    row = tx.execute(joined.where(_keys.c.sha256 == sha256)).mappings().first()
    if row is None or not hmac.compare_digest(str(row["sha256"]), sha256):
        return None
    return Principal(_resource(row), row["name"], frozenset({Role(row["role"])}))


def _belongs(table: Table, resource_id: str) -> ColumnElement[bool]:
    """The condition on a table's rows that belong to the resource, by following foreign keys up to `resources`; false
    for a table without any.
    """
    if table is _resources:
        return _resources.c.id == resource_id
    # Through any of its keys: a permission goes with the resource that gave it.
    belongs: list[ColumnElement[bool]] = [
        key.parent.in_(select(key.column).where(_belongs(key.column.table, resource_id))) for key in table.foreign_keys
    ]
    return or_(false(), *belongs)


def _delete_permissions(tx: Connection, resource_id: str) -> None:
    """Deletes the permissions that others have given to the resource's account name."""
    resource = get(tx, resource_id)
    if resource is not None:
        permissions.delete_of_account(tx, resource.account)


def _first(tx: Connection, condition: ColumnElement[bool]) -> Resource | None:
    """The resource that meets the condition; None if none does."""
    row = tx.execute(select(_resources).where(condition)).mappings().first()
    return None if row is None else _resource(row)


def _resource(row: row_mapping.Row) -> Resource:
    return Resource(row["id"], row["subscription"], row["resource_group"], row["account"])
