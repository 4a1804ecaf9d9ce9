"""Who is signed in to the portal."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.create_table(
        "portal_sessions",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("resource_id", sa.String(length=64), nullable=False),
        sa.Column("key_sha256", sa.String(length=64)),
        sa.Column("key_name", sa.String(length=160), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["resource_id"], ["resources.id"], name=op.f("fk_portal_sessions_resource_id")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_portal_sessions")),
    )
    for column in ("resource_id", "expires_at"):
        op.create_index(f"ix_portal_sessions_{column}", "portal_sessions", [column])


def downgrade() -> None:
    op.drop_table("portal_sessions")
