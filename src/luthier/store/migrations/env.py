"""Alembic's entry, which it executes by this name: runs the migrations on the connection of `Database.migrate`, whose
transaction commits them or rolls them back.
"""

from alembic import context

from luthier.store import delivery_schema

context.configure(
    connection=context.config.attributes["connection"], target_metadata=delivery_schema.metadata, render_as_batch=True
)
context.run_migrations()
