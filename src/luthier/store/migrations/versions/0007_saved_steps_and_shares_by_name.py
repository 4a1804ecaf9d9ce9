"""The step that an attempt could go on from; permissions for a name, which a resource may have or not."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("attempts", sa.Column("saved_step", sa.Integer(), nullable=False, server_default="0"))
    op.rename_table("checkpoint_permissions", "permissions_of_resources")
    op.drop_index(op.f("ix_checkpoint_permissions_resource_id"))
    op.create_table(
        "checkpoint_permissions",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("checkpoint_id", sa.String(length=64), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"], ["checkpoints.id"], name=op.f("fk_checkpoint_permissions_checkpoint_id")
        ),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_checkpoint_permissions")),
        sa.UniqueConstraint("id", name=op.f("uq_checkpoint_permissions_id")),
        sa.UniqueConstraint("checkpoint_id", "account", name=op.f("uq_checkpoint_permissions_checkpoint_id")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_checkpoint_permissions_account"), "checkpoint_permissions", ["account"])
    op.execute(
        "INSERT INTO checkpoint_permissions (seq, id, checkpoint_id, account, created_at) "
        "SELECT old.seq, old.id, old.checkpoint_id, resources.account, old.created_at "
        "FROM permissions_of_resources AS old JOIN resources ON resources.id = old.resource_id"
    )
    op.drop_table("permissions_of_resources")


def downgrade() -> None:
    op.rename_table("checkpoint_permissions", "permissions_of_names")
    op.drop_index(op.f("ix_checkpoint_permissions_account"))
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
    op.execute(
        "INSERT INTO checkpoint_permissions (seq, id, checkpoint_id, resource_id, created_at) "
        "SELECT old.seq, old.id, old.checkpoint_id, resources.id, old.created_at "
        "FROM permissions_of_names AS old JOIN resources ON lower(resources.account) = lower(old.account)"
    )
    op.drop_table("permissions_of_names")
    op.drop_column("attempts", "saved_step")
