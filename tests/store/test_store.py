"""The database: migrations build what the schema says, transactions queue, paging ends."""

import threading
from datetime import UTC, datetime
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from luthier.core.models import Resource
from luthier.store import db, resources, schema


def test_migrations_build_the_schema(tmp_path: Path) -> None:
    database = db.make(tmp_path / "a.db")
    with database.reading() as tx:
        assert compare_metadata(MigrationContext.configure(tx), schema.metadata) == []
    database.close()


def test_database_is_in_wal_mode_and_checks_foreign_keys(tmp_path: Path) -> None:
    database = db.make(tmp_path / "a.db")
    with database.reading() as tx:
        assert tx.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert tx.execute(text("PRAGMA foreign_keys")).scalar() == 1
        assert tx.execute(text("PRAGMA synchronous")).scalar() == 2
    database.close()


def test_times_come_back_to_the_microsecond(tmp_path: Path) -> None:
    database = db.make(tmp_path / "a.db")
    moment = datetime(2026, 11, 22, 1, 2, 3, 456789, tzinfo=UTC)
    with database.writing() as tx:
        resources.insert_resource(tx, Resource("r", "s", "g", "a"), moment)
    with database.reading() as tx:
        assert tx.execute(schema.resources.select()).mappings().one()["created_at"] == moment
    database.close()


def test_writers_queue_and_lose_nothing(tmp_path: Path) -> None:
    """Read, then write, from eight threads: with the lock taken at the start no update is lost."""
    database = db.make(tmp_path / "a.db")
    with database.writing() as tx:
        tx.execute(text("CREATE TABLE counter (n INTEGER)"))
        tx.execute(text("INSERT INTO counter VALUES (0)"))

    def count() -> None:
        for _ in range(10):
            with database.writing() as tx:
                n = tx.execute(text("SELECT n FROM counter")).scalar_one()
                tx.execute(text("UPDATE counter SET n = :n"), {"n": n + 1})

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as tx:
        assert tx.execute(text("SELECT n FROM counter")).scalar_one() == 80
    database.close()
