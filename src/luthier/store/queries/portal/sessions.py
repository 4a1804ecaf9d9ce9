"""Queries on the portal's sessions. A session is stored as the sha256 of its token, never as the token. Those that
write need a transaction of `Database.writing`.
"""

from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from luthier.core.models import Principal, Resource
from luthier.core.roles import Role
from luthier.store import portal_schema, schema

_sessions = portal_schema.portal_sessions
_resources = schema.resources


def insert_session(
    tx: Connection, sha256: str, caller: Principal, key_sha256: str | None, created_at: datetime, expires_at: datetime
) -> None:
    """Inserts the row; `key_sha256` is that of the key that signed in, None for a token of an issuer."""
    tx.execute(
        insert(_sessions).values(
            sha256=sha256,
            resource_id=caller.resource.id,
            key_sha256=key_sha256,
            key_name=caller.key_name,
            roles=sorted(caller.roles),
            created_at=created_at,
            expires_at=expires_at,
        )
    )


def principal(tx: Connection, sha256: str, now: datetime) -> Principal | None:
    """Whom a session authenticates, with the roles that its key has now.

    None for an unknown or expired session, one whose key is gone, and one whose resource is deleted.
    """
    keys = schema.api_keys
    statement = (
        select(_sessions.c.key_name, _sessions.c.roles, _sessions.c.key_sha256, keys.c.role, *_resources.c)
        .join(_resources, _sessions.c.resource_id == _resources.c.id)
        .outerjoin(keys, _sessions.c.key_sha256 == keys.c.sha256)
        .where(_sessions.c.sha256 == sha256, _sessions.c.expires_at > now, _resources.c.deleted_at.is_(None))
    )
    row = tx.execute(statement).mappings().first()
    if row is None or (row["key_sha256"] is not None and row["role"] is None):
        return None
    names = row["roles"] if row["role"] is None else [row["role"]]
    resource = Resource(row["id"], row["subscription"], row["resource_group"], row["account"])
    return Principal(resource, row["key_name"], frozenset(Role(name) for name in names))


def delete_session(tx: Connection, sha256: str) -> None:
    """Ends a session; does nothing if there is none."""
    tx.execute(delete(_sessions).where(_sessions.c.sha256 == sha256))


def delete_expired(tx: Connection, now: datetime) -> int:
    """Deletes the rows of sessions that ended before `now`; returns how many."""
    return tx.execute(delete(_sessions).where(_sessions.c.expires_at <= now)).rowcount
