"""SQL: tables, migrations, and one module of queries per noun. Functions take a transaction and never commit."""
