"""The model that answers while a newer one under the same name is not proven yet."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.add_column("deployments", sa.Column("answering", sa.Text()))


def downgrade() -> None:
    op.drop_column("deployments", "answering")
