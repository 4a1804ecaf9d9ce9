"""The tables of what is asked of models and kept, beside those of `schema`, whose metadata they join."""

from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text

from luthier.store import schema
from luthier.store.schema import UtcTime

metadata = schema.metadata

# `previous_id` is no reference: the response before may be deleted while a later one stays. `body` is without `output`,
# which a later one needs alone: the rest repeats the request. `owner` is the process that generates one in the
# background, by the name of its lease.
responses = Table(
    "responses",
    metadata,
    schema.seq_column(),
    Column("id", String(64), nullable=False, unique=True),
    Column("resource_id", ForeignKey("resources.id"), nullable=False, index=True),
    Column("created_at", UtcTime, nullable=False),
    Column("status", String(16), nullable=False, index=True),
    Column("previous_id", String(64), index=True),
    Column("input_items", JSON, nullable=False),
    Column("output", JSON, nullable=False),
    Column("body", JSON, nullable=False),
    Column("request", JSON(none_as_null=True)),
    Column("owner", String(96)),
    Index("ix_responses_created_at", "created_at"),
    sqlite_autoincrement=True,
)

batches = Table(
    "batches",
    metadata,
    schema.seq_column(),
    Column("id", String(64), nullable=False, unique=True),
    Column("resource_id", ForeignKey(schema.resources.c.id), nullable=False, index=True),
    Column("dialect", String(32), nullable=False),
    Column("endpoint", String(64), nullable=False),
    Column("input_file", String(64), nullable=False),
    Column("completion_window", String(16), nullable=False),
    Column("metadata", JSON(none_as_null=True)),
    Column("output_expires_after_s", Integer),
    Column("status", String(16), nullable=False, index=True),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("in_progress_at", UtcTime),
    Column("finalizing_at", UtcTime),
    Column("completed_at", UtcTime),
    Column("failed_at", UtcTime),
    Column("expired_at", UtcTime),
    Column("cancelling_at", UtcTime),
    Column("cancelled_at", UtcTime),
    Column("model", Text),
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("output_file", String(64)),
    Column("error_file", String(64)),
    Column("faults", JSON, nullable=False),
    sqlite_autoincrement=True,
)
