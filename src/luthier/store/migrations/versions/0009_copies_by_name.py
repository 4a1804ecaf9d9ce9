"""Copies of checkpoints for a name, which a resource may have or not."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
_KEPT = "seq, id, source_resource_id, copied_from, region, job_id, model, base_model, step, metrics, files, created_at"


def upgrade() -> None:
    _begin("ix_checkpoint_copies_copied_from")
    _create(
        sa.Column("subscription", sa.String(length=64), nullable=False),
        sa.Column("resource_group", sa.String(length=128), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("is_deleted", sa.Boolean(create_constraint=False), nullable=False, server_default=sa.false()),
        sa.UniqueConstraint(
            "copied_from",
            "subscription",
            "resource_group",
            "account",
            name=op.f("uq_checkpoint_copies_copied_from"),
        ),
    )
    op.create_index(op.f("ix_checkpoint_copies_model"), "checkpoint_copies", ["model"])
    op.execute(
        f"INSERT INTO checkpoint_copies ({_KEPT}, subscription, resource_group, account) "
        f"SELECT {_of_old()}, resources.subscription, resources.resource_group, resources.account "
        "FROM old_copies AS old JOIN resources ON resources.id = old.resource_id"
    )
    _end()


def downgrade() -> None:
    _begin("ix_checkpoint_copies_model")
    _create(
        sa.Column("resource_id", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["resource_id"], ["resources.id"], name=op.f("fk_checkpoint_copies_resource_id")),
        sa.UniqueConstraint("resource_id", "model", name=op.f("uq_checkpoint_copies_resource_id")),
    )
    op.create_index(op.f("ix_checkpoint_copies_copied_from"), "checkpoint_copies", ["copied_from"])
    op.execute(
        f"INSERT INTO checkpoint_copies ({_KEPT}, resource_id) SELECT {_of_old()}, resources.id "
        "FROM old_copies AS old JOIN resources ON lower(resources.subscription) = lower(old.subscription) "
        "AND lower(resources.resource_group) = lower(old.resource_group) "
        "AND lower(resources.account) = lower(old.account) WHERE NOT old.is_deleted"
    )
    _end()


def _of_old() -> str:
    return ", ".join(f"old.{name}" for name in _KEPT.split(", "))


def _begin(index: str) -> None:
    op.rename_table("checkpoint_copies", "old_copies")
    op.drop_index(op.f(index))


def _create(*more: sa.schema.SchemaItem) -> None:
    op.create_table(
        "checkpoint_copies",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("source_resource_id", sa.String(length=64), nullable=False),
        sa.Column("copied_from", sa.String(length=64), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("base_model", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_checkpoint_copies")),
        sa.UniqueConstraint("id", name=op.f("uq_checkpoint_copies_id")),
        *more,
        sqlite_autoincrement=True,
    )


def _end() -> None:
    # How many rows there ever were is what tells an older database from the newest: the new table goes on counting.
    op.execute("DELETE FROM sqlite_sequence WHERE name = 'checkpoint_copies'")
    op.execute(
        "INSERT INTO sqlite_sequence (name, seq) "
        "SELECT 'checkpoint_copies', seq FROM sqlite_sequence WHERE name = 'old_copies'"
    )
    op.drop_table("old_copies")
