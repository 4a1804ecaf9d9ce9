"""How far the metrics of each job have been sent to each experiment tracker."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.create_table(
        "sink_cursors",
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("sink", sa.String(32), nullable=False),
        sa.Column("cursor", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("state", sa.String(16), nullable=False, server_default="open"),
        sa.Column("tries", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("next_at", sa.BigInteger()),
        sa.Column("error", sa.String(64)),
        sa.Column("run_id", sa.Text()),
        sa.Column("place", sa.Text()),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_sink_cursors_job_id"),
        sa.PrimaryKeyConstraint("job_id", "sink", name="pk_sink_cursors"),
    )
    op.create_index("ix_sink_cursors_sink", "sink_cursors", ["sink", "state"])


def downgrade() -> None:
    op.drop_table("sink_cursors")
