"""Alembic's entry: runs the migrations on the connection that `Database.migrate` holds."""

from alembic import context

from luthier.store import schema

context.configure(
    connection=context.config.attributes["connection"], target_metadata=schema.metadata, render_as_batch=True
)
context.run_migrations()
