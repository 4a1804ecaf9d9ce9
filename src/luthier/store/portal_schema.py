"""The tables of the portal: who is signed in. They join the metadata of `schema`."""

from sqlalchemy import JSON, Column, ForeignKey, String, Table

from luthier.store import schema
from luthier.store.schema import UtcTime

metadata = schema.metadata

# By the sha256 of the session's token, which only the browser's cookie holds. `key_sha256` is that of the key that
# signed in, for the session ends with it; None for a token of an issuer, whose roles are in `roles`.
portal_sessions = Table(
    "portal_sessions",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("resource_id", ForeignKey(schema.resources.c.id), nullable=False, index=True),
    Column("key_sha256", String(64)),
    Column("key_name", String(160), nullable=False),
    Column("roles", JSON, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False, index=True),
)
