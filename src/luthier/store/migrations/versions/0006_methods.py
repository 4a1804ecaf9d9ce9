"""What a job learns by, and the beta of one that learns preferences."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    # Plain ALTERs: a batch would build `jobs` anew, and the rows that refer to it would stand in the way.
    op.add_column("jobs", sa.Column("method", sa.String(length=16), nullable=False, server_default="supervised"))
    op.add_column("jobs", sa.Column("beta", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("jobs", "beta")
    op.drop_column("jobs", "method")
