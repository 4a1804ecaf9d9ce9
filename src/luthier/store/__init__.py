"""SQL: tables, migrations, and one module of queries per noun. No other package imports SQLAlchemy. Query functions
take an open transaction first and never commit; `db.Database` opens, commits and rolls back.
"""
