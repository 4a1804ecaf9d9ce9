"""What the control plane was sent of a deployment and shows again."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.add_column("deployments", sa.Column("extras", sa.JSON(), nullable=False, server_default="{}"))


def downgrade() -> None:
    op.drop_column("deployments", "extras")
