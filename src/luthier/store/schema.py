"""The tables as SQLAlchemy values, for the queries. `migrations/` builds them; a test compares the two."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class UtcTime(TypeDecorator[datetime]):
    """The type of every time column: an aware UTC datetime, stored as whole microseconds since 1970; NULL is None."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        return from_microseconds(value)


def from_microseconds(value: int | None) -> datetime | None:
    # A float holds these seconds to a quarter of a microsecond until 2106; the sum of dates takes twice as long.
    return None if value is None else datetime.fromtimestamp(value / 1_000_000, UTC)


def seq_column() -> Column[int]:
    """The primary key of a table whose rows have an order: 64 bits on both databases, which SQLite's INTEGER has."""
    return Column("seq", SEQ, Identity(), primary_key=True, autoincrement=True)


SEQ = BigInteger().with_variant(Integer, "sqlite")
"""The type of `seq`, and of every column that refers to one."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

# One row, created with the table. `blob_prefix` is None until the first start has chosen it.
installation = Table(
    "installation",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("created_at", UtcTime, nullable=False),
    Column("blob_prefix", Text),
    Column("behind_since", UtcTime),
    Column("settled_at", UtcTime),
    Column("unsettled_s", Float, nullable=False, server_default="0"),
)

# One row: how many transactions have written. PostgreSQL has no counterpart of SQLite's data_version.
commit_counter = Table(
    "commit_counter",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", BigInteger, nullable=False),
)

resources = Table(
    "resources",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("subscription", String(64), nullable=False),
    Column("resource_group", String(128), nullable=False),
    Column("account", String(64), nullable=False, unique=True),
    Column("created_at", UtcTime, nullable=False),
    Column("deleted_at", UtcTime),
    Column("last_start_at", UtcTime),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("resource_id", ForeignKey(resources.c.id), nullable=False),
    Column("name", String(64), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("role", String(64), nullable=False, server_default="Owner"),
    Index("ix_api_keys_resource_id", "resource_id", "name", unique=True),
)

# Only limits that an operator has set; core/quotas.py has the defaults.
quotas = Table(
    "quotas",
    metadata,
    Column("resource_id", ForeignKey(resources.c.id), primary_key=True),
    Column("name", String(32), primary_key=True),
    Column("limit", BigInteger, nullable=False),
)

# `seq` is the order of lists, newest first, whatever the clock did, and the cursor behind `after=<id>`.
files = Table(
    "files",
    metadata,
    seq_column(),
    Column("id", String(64), nullable=False, unique=True),
    Column("resource_id", ForeignKey(resources.c.id), nullable=False, index=True),
    Column("filename", Text, nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("status_details", Text),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    sqlite_autoincrement=True,
)

# A row is deleted at the end of its import: the URL may contain a credential.
file_imports = Table(
    "file_imports",
    metadata,
    Column("file_id", String(64), primary_key=True),
    Column("resource_id", ForeignKey(resources.c.id), nullable=False),
    Column("content_url", Text, nullable=False),
)

uploads = Table(
    "uploads",
    metadata,
    seq_column(),
    Column("id", String(64), nullable=False, unique=True),
    Column("resource_id", ForeignKey(resources.c.id), nullable=False),
    Column("filename", Text, nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("mime_type", Text, nullable=False),
    Column("status", String(16), nullable=False, index=True),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("file_expires_after_s", Integer),
    Column("part_ids", JSON(none_as_null=True)),
    Column("file_id", String(64)),
    sqlite_autoincrement=True,
)

upload_parts = Table(
    "upload_parts",
    metadata,
    seq_column(),
    Column("id", String(64), nullable=False, unique=True),
    Column("upload_id", ForeignKey(uploads.c.id), nullable=False, index=True),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    sqlite_autoincrement=True,
)

jobs = Table(
    "jobs",
    metadata,
    seq_column(),
    Column("id", String(64), nullable=False, unique=True),
    Column("resource_id", ForeignKey(resources.c.id), nullable=False, index=True),
    Column("status", String(32), nullable=False, index=True),
    Column("base_model", Text, nullable=False),
    Column("requested_model", Text, nullable=False),
    Column("parent_model", Text),
    Column("training_file", String(64), nullable=False),
    Column("validation_file", String(64)),
    Column("n_epochs", Integer),
    Column("batch_size", Integer),
    Column("learning_rate_multiplier", Float),
    Column("beta", Float),
    Column("method", String(16), nullable=False, server_default="supervised"),
    Column("method_sent", Boolean(create_constraint=False), nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("suffix", String(64)),
    Column("extras", JSON, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime),
    Column("estimated_finish", UtcTime),
    Column("fine_tuned_model", Text),
    Column("result_file", String(64)),
    Column("trained_tokens", BigInteger),
    Column("error", JSON(none_as_null=True)),
    Column("handle", Text),
    Column("has_run", Boolean(create_constraint=False), nullable=False, server_default=false()),
    Column("absorbed_bytes", BigInteger, nullable=False),
    Column("is_deleted", Boolean(create_constraint=False), nullable=False, server_default=false()),
    Column("early_stop_patience", Integer),
    Column("peak_memory_bytes", BigInteger),
    # The queue by resource, and what has still a run: each tick reads them, however many jobs there are.
    Index("ix_jobs_queue", "status", "resource_id", "seq"),
    Index("ix_jobs_has_run", "has_run", "status"),
    sqlite_autoincrement=True,
)

attempts = Table(
    "attempts",
    metadata,
    seq_column(),
    Column("id", String(64), nullable=False, unique=True),
    Column("job_id", ForeignKey(jobs.c.id), nullable=False),
    Column("number", Integer, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("last_step", Integer, nullable=False),
    Column("ended_at", UtcTime),
    Column("end", String(32)),
    Column("detail", Text),
    Column("saved_step", Integer, nullable=False, server_default="0"),
    Column("signal", Integer),
    Column("exit_status", Integer),
    Column("error_code", String(64)),
    UniqueConstraint("job_id", "number"),
    sqlite_autoincrement=True,
)

events = Table(
    "events",
    metadata,
    seq_column(),
    Column("id", String(64), nullable=False, unique=True),
    Column("job_id", ForeignKey(jobs.c.id), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("level", String(16), nullable=False),
    Column("type", String(16), nullable=False),
    Column("message", Text, nullable=False),
    Column("data", JSON(none_as_null=True)),
    Index("ix_events_job_id", "job_id", "seq"),
    sqlite_autoincrement=True,
)

checkpoints = Table(
    "checkpoints",
    metadata,
    seq_column(),
    Column("id", String(64), nullable=False, unique=True),
    Column("resource_id", ForeignKey(resources.c.id), nullable=False, index=True),
    Column("job_id", ForeignKey(jobs.c.id), nullable=False),
    Column("model", Text, nullable=False, unique=True),
    Column("base_model", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("files", JSON, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("job_id", "step"),
    sqlite_autoincrement=True,
)

# The account is a name, not a reference: whether a resource has it now, later or never stays unknown to the granter.
checkpoint_permissions = Table(
    "checkpoint_permissions",
    metadata,
    seq_column(),
    Column("id", String(64), nullable=False, unique=True),
    Column("checkpoint_id", ForeignKey(checkpoints.c.id), nullable=False),
    Column("account", String(64), nullable=False, index=True),
    Column("created_at", UtcTime, nullable=False),
    UniqueConstraint("checkpoint_id", "account"),
    sqlite_autoincrement=True,
)

# No references: a copy outlives job, checkpoint and source. Its target is a name. Its row outlives its deletion.
checkpoint_copies = Table(
    "checkpoint_copies",
    metadata,
    seq_column(),
    Column("id", String(64), nullable=False, unique=True),
    Column("source_resource_id", String(64), nullable=False),
    Column("copied_from", String(64), nullable=False),
    Column("subscription", String(64), nullable=False),
    Column("resource_group", String(128), nullable=False),
    Column("account", String(64), nullable=False),
    Column("region", Text, nullable=False),
    Column("job_id", String(64), nullable=False),
    Column("model", Text, nullable=False, index=True),
    Column("base_model", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("files", JSON, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("is_deleted", Boolean(create_constraint=False), nullable=False, server_default=false()),
    UniqueConstraint("copied_from", "subscription", "resource_group", "account"),
    sqlite_autoincrement=True,
)

deployments = Table(
    "deployments",
    metadata,
    Column("resource_id", ForeignKey(resources.c.id), primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("model", Text, nullable=False, index=True),
    Column("model_version", String(32)),
    Column("sku_name", String(64), nullable=False),
    Column("sku_capacity", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("parity", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("model_source", Text),
    Column("sku_changed_at", UtcTime, nullable=False),
    Column("last_used_at", UtcTime, nullable=False),
    Column("extras", JSON, nullable=False, server_default="{}"),
    Column("answering", Text),
)
