"""Roles of keys, quotas that an operator has set, resources that are to go; the first key becomes key1."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    # Plain ALTERs: a batch would build the tables anew, and the rows that refer to them would stand in the way.
    op.add_column("resources", sa.Column("deleted_at", sa.BigInteger(), nullable=True))
    op.add_column("api_keys", sa.Column("role", sa.String(length=64), nullable=False, server_default="Owner"))
    op.execute("UPDATE api_keys SET name = 'key1' WHERE name = 'first'")
    op.create_index("ix_api_keys_resource_id", "api_keys", ["resource_id", "name"], unique=True)
    op.create_table(
        "quotas",
        sa.Column("resource_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("limit", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["resource_id"], ["resources.id"], name=op.f("fk_quotas_resource_id")),
        sa.PrimaryKeyConstraint("resource_id", "name", name=op.f("pk_quotas")),
    )


def downgrade() -> None:
    op.drop_table("quotas")
    op.drop_index("ix_api_keys_resource_id", "api_keys")
    op.execute("UPDATE api_keys SET name = 'first' WHERE name = 'key1'")
    op.drop_column("api_keys", "role")
    op.drop_column("resources", "deleted_at")
