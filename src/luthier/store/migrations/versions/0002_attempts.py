"""Attempts at a job's run; whether a job has a run directory, in place of the count of fruitless starts."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "attempts",
        sa.Column("seq", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("last_step", sa.Integer(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("end", sa.String(length=32), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_attempts_job_id")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_attempts")),
        sa.UniqueConstraint("id", name=op.f("uq_attempts_id")),
        sa.UniqueConstraint("job_id", "number", name=op.f("uq_attempts_job_id")),
        sqlite_autoincrement=True,
    )
    # Plain ALTERs: a batch would build `jobs` anew, and the rows that refer to it would stand in the way.
    op.add_column("jobs", sa.Column("has_run", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.execute("UPDATE jobs SET has_run = 1 WHERE handle IS NOT NULL OR status = 'running'")
    op.drop_column("jobs", "starts")


def downgrade() -> None:
    op.add_column("jobs", sa.Column("starts", sa.Integer(), nullable=False, server_default="0"))
    op.drop_column("jobs", "has_run")
    op.drop_table("attempts")
