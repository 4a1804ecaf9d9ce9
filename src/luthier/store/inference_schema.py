"""The tables of what models have answered; `schema` has all others."""

from sqlalchemy import JSON, Column, ForeignKey, Index, Integer, String, Table

from luthier.store.schema import UtcTime
from luthier.store.schema import metadata as metadata

# `previous_id` is no reference: the response before may be deleted while a later one stays.
responses = Table(
    "responses",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("id", String(64), nullable=False, unique=True),
    Column("resource_id", ForeignKey("resources.id"), nullable=False, index=True),
    Column("created_at", UtcTime, nullable=False),
    Column("status", String(16), nullable=False, index=True),
    Column("previous_id", String(64), index=True),
    Column("input_items", JSON, nullable=False),
    Column("body", JSON, nullable=False),
    Column("request", JSON(none_as_null=True)),
    Index("ix_responses_created_at", "created_at"),
    sqlite_autoincrement=True,
)
