"""The tables of webhooks, beside those of `schema`, whose metadata they join."""

from sqlalchemy import JSON, Column, ForeignKey, Index, Integer, String, Table, Text

from luthier.store import schema
from luthier.store.schema import UtcTime

metadata = schema.metadata

# The secrets are sealed: their key is a file beside the database (docs/decisions/0017-webhooks-outbox.md).
webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    schema.seq_column(),
    Column("id", String(64), nullable=False, unique=True),
    Column("resource_id", ForeignKey(schema.resources.c.id), nullable=False, index=True),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("name", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("event_types", JSON, nullable=False),
    Column("secret", Text, nullable=False),
    Column("secret_hint", String(32), nullable=False),
    Column("previous_secret", Text),
    Column("previous_until", UtcTime),
    Column("disabled_at", UtcTime),
    sqlite_autoincrement=True,
)

# The outbox. `next_at` is None once a delivery has ended.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    schema.seq_column(),
    Column("id", String(64), nullable=False, unique=True),
    Column("endpoint_id", ForeignKey(webhook_endpoints.c.id), nullable=False, index=True),
    Column("event_id", String(64), nullable=False),
    Column("type", String(64), nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("first_attempt_at", UtcTime),
    Column("next_at", UtcTime),
    Column("status_code", Integer),
    Column("ended_at", UtcTime),
    Index("ix_webhook_deliveries_next_at", "next_at"),
    Index("ix_webhook_deliveries_ended_at", "ended_at"),
    sqlite_autoincrement=True,
)
