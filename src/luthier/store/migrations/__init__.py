"""Alembic migrations of the SQLite database; `Database.migrate` applies those that are missing at every start."""
