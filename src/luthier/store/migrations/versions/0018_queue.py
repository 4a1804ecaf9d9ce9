"""The queue by resource: when each last had a run started, what a run is expected to take, and the indexes of both."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.add_column("resources", sa.Column("last_start_at", sa.BigInteger()))
    op.add_column("jobs", sa.Column("peak_memory_bytes", sa.BigInteger()))
    op.create_index("ix_jobs_queue", "jobs", ["status", "resource_id", "seq"])
    op.create_index("ix_jobs_has_run", "jobs", ["has_run", "status"])


def downgrade() -> None:
    op.drop_index("ix_jobs_has_run", "jobs")
    op.drop_index("ix_jobs_queue", "jobs")
    op.drop_column("jobs", "peak_memory_bytes")
    op.drop_column("resources", "last_start_at")
