"""The databases that Luthier can store its rows in: SQLite and PostgreSQL, with the same methods."""
