"""Responses that are kept, so that a conversation can continue."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "responses",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("resource_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("previous_id", sa.String(length=64)),
        sa.Column("input_items", sa.JSON(), nullable=False),
        sa.Column("output", sa.JSON(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("request", sa.JSON(none_as_null=True)),
        sa.ForeignKeyConstraint(["resource_id"], ["resources.id"], name=op.f("fk_responses_resource_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_responses")),
        sa.UniqueConstraint("id", name=op.f("uq_responses_id")),
        sqlite_autoincrement=True,
    )
    for column in ("resource_id", "created_at", "status", "previous_id"):
        op.create_index(f"ix_responses_{column}", "responses", [column])


def downgrade() -> None:
    op.drop_table("responses")
