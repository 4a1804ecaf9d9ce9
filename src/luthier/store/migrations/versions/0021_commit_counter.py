"""The number of commits, which PostgreSQL needs; from here on every revision is written for both databases."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


def upgrade() -> None:
    counter = op.create_table(
        "commit_counter",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commit_counter")),
    )
    op.bulk_insert(counter, [{"id": 1, "number": 0}])


def downgrade() -> None:
    op.drop_table("commit_counter")
