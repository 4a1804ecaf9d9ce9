"""Several API processes: their shares of rate limits, and which of them generates a response in the background."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.create_table(
        "rate_grants",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("process", sa.String(length=96), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "process", name=op.f("pk_rate_grants")),
    )
    op.create_index("ix_rate_grants_expires_at", "rate_grants", ["expires_at"])
    op.add_column("responses", sa.Column("owner", sa.String(length=96)))


def downgrade() -> None:
    op.drop_column("responses", "owner")
    op.drop_table("rate_grants")
