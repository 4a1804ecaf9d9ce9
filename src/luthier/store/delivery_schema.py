"""The tables of what is sent to other programs, beside those of `schema`, whose metadata they join."""

from sqlalchemy import Column, ForeignKey, Index, Integer, String, Table, Text

from luthier.store import schema
from luthier.store.schema import UtcTime

metadata = schema.metadata

sink_cursors = Table(
    "sink_cursors",
    metadata,
    Column("job_id", ForeignKey(schema.jobs.c.id), primary_key=True),
    Column("sink", String(32), primary_key=True),
    Column("cursor", schema.SEQ, nullable=False, server_default="0"),
    Column("state", String(16), nullable=False, server_default="open"),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("next_at", UtcTime),
    Column("error", String(64)),
    Column("run_id", Text),
    Column("place", Text),
    Index("ix_sink_cursors_sink", "sink", "state"),
)
