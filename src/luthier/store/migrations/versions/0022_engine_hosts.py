"""Engine hosts: the processes that load models for all API processes."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    op.create_table(
        "engine_hosts",
        sa.Column("url", sa.String(length=512), nullable=False),
        sa.Column("process", sa.String(length=96), nullable=False),
        sa.Column("weight", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("url", name=op.f("pk_engine_hosts")),
    )
    op.create_index("ix_engine_hosts_process", "engine_hosts", ["process"])


def downgrade() -> None:
    op.drop_table("engine_hosts")
