"""Checkpoints shared and copied; deployments with tags and a last call; jobs on their way out."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_NOW = "CAST(strftime('%s', 'now') AS INTEGER) * 1000000"


def upgrade() -> None:
    op.create_table(
        "checkpoint_permissions",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("checkpoint_id", sa.String(length=64), nullable=False),
        sa.Column("resource_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"], ["checkpoints.id"], name=op.f("fk_checkpoint_permissions_checkpoint_id")
        ),
        sa.ForeignKeyConstraint(["resource_id"], ["resources.id"], name=op.f("fk_checkpoint_permissions_resource_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_checkpoint_permissions")),
        sa.UniqueConstraint("id", name=op.f("uq_checkpoint_permissions_id")),
        sa.UniqueConstraint("checkpoint_id", "resource_id", name=op.f("uq_checkpoint_permissions_checkpoint_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_checkpoint_permissions_resource_id"), "checkpoint_permissions", ["resource_id"])
    op.create_table(
        "checkpoint_copies",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("resource_id", sa.String(length=64), nullable=False),
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
        sa.ForeignKeyConstraint(["resource_id"], ["resources.id"], name=op.f("fk_checkpoint_copies_resource_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_checkpoint_copies")),
        sa.UniqueConstraint("id", name=op.f("uq_checkpoint_copies_id")),
        sa.UniqueConstraint("resource_id", "model", name=op.f("uq_checkpoint_copies_resource_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_checkpoint_copies_copied_from"), "checkpoint_copies", ["copied_from"])
    op.add_column("jobs", sa.Column("is_deleted", sa.Boolean(), nullable=False, server_default=sa.false()))
    # Nothing refers to deployments, so a batch may build them anew. Idleness counts from here on, not from the past.
    with op.batch_alter_table("deployments") as batch:
        batch.add_column(sa.Column("tags", sa.JSON(), nullable=False, server_default="{}"))
        batch.add_column(sa.Column("model_source", sa.Text(), nullable=True))
        batch.add_column(sa.Column("sku_changed_at", sa.BigInteger(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("last_used_at", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute(f"UPDATE deployments SET sku_changed_at = {_NOW}, last_used_at = {_NOW}")
    with op.batch_alter_table("deployments") as batch:
        for name in ("tags", "sku_changed_at", "last_used_at"):
            batch.alter_column(name, server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("deployments") as batch:
        for name in ("last_used_at", "sku_changed_at", "model_source", "tags"):
            batch.drop_column(name)
    op.drop_column("jobs", "is_deleted")
    op.drop_table("checkpoint_copies")
    op.drop_table("checkpoint_permissions")
