"""Queries on resources and their keys. A key is stored as the sha256 of its text, never as the text."""

from datetime import datetime

from sqlalchemy import Connection, func, insert, select

from luthier.core.models import Principal, Resource
from luthier.store import schema

_resources = schema.resources
_keys = schema.api_keys


def insert_resource(tx: Connection, resource: Resource, created_at: datetime) -> None:
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
    row = tx.execute(select(_resources).where(_resources.c.id == resource_id)).mappings().first()
    if row is None:
        return None
    return Resource(row["id"], row["subscription"], row["resource_group"], row["account"])


def of_account(tx: Connection, subscription: str, group: str, account: str) -> Resource | None:
    """A resource by the parts of its id in the control plane, which compares them without regard to case."""
    names = ((_resources.c.subscription, subscription), (_resources.c.resource_group, group))
    same = [func.lower(column) == value.lower() for column, value in (*names, (_resources.c.account, account))]
    row = tx.execute(select(_resources).where(*same)).mappings().first()
    if row is None:
        return None
    return Resource(row["id"], row["subscription"], row["resource_group"], row["account"])


def named(tx: Connection, name: str) -> Resource | None:
    """A resource by its account, which is the name that its users know it by."""
    row = tx.execute(select(_resources).where(_resources.c.account == name)).mappings().first()
    if row is None:
        return None
    return Resource(row["id"], row["subscription"], row["resource_group"], row["account"])


def insert_key(tx: Connection, sha256: str, resource_id: str, name: str, created_at: datetime) -> None:
    tx.execute(insert(_keys).values(sha256=sha256, resource_id=resource_id, name=name, created_at=created_at))


def delete_key(tx: Connection, resource_id: str, name: str) -> None:
    tx.execute(_keys.delete().where(_keys.c.resource_id == resource_id, _keys.c.name == name))


def principal_of_key(tx: Connection, sha256: str) -> Principal | None:
    """Who a key opens for; the lookup is by hash, so its timing tells nothing about the key."""
    joined = select(_keys.c.name, _resources).join(_resources, _keys.c.resource_id == _resources.c.id)
    row = tx.execute(joined.where(_keys.c.sha256 == sha256)).mappings().first()
    if row is None:
        return None
    return Principal(Resource(row["id"], row["subscription"], row["resource_group"], row["account"]), row["name"])
