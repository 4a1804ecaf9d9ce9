"""What both databases promise: one schema, writers one after the other, values as they were written, one migration."""

import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import BigInteger, inspect, text
from sqlalchemy.exc import IntegrityError

import databases
from luthier.api.openapi import example_answers
from luthier.core.errors import Unavailable
from luthier.core.models import Event, Resource
from luthier.core.raw_json import JsonText
from luthier.core.states import EventCode, EventLevel, EventType
from luthier.service.tenants import keys
from luthier.store import installation, schema, tables
from luthier.store.databases import postgres_database, sqlite_database
from luthier.store.db import Database
from luthier.store.queries import events, jobs, resources

pytestmark = pytest.mark.parametrize("database_kind", databases.KINDS)
START = datetime(2026, 11, 22, 1, 2, 3, 456789, tzinfo=UTC)

JOB = replace(example_answers.JOB, resource_id=keys.DEFAULT_RESOURCE.id)


def test_schema_of_the_database_is_the_one_of_the_queries(database: Database) -> None:
    with database.reading() as tx:
        assert compare_metadata(MigrationContext.configure(tx), tables.metadata) == []


def test_number_of_a_row_has_64_bits(database: Database) -> None:
    with database.reading() as tx:
        inspector = inspect(tx)
        for table in tables.metadata.sorted_tables:
            for column in inspector.get_columns(table.name):
                if column["name"] in {"seq", "cursor"} and tx.dialect.name == "postgresql":
                    assert isinstance(column["type"], BigInteger), table.name


def test_times_come_back_to_the_microsecond(database: Database) -> None:
    with database.writing() as tx:
        resources.insert_resource(tx, Resource("r", "s", "g", "a"), START)
    with database.reading() as tx:
        assert tx.execute(schema.resources.select()).mappings().one()["created_at"] == START


def test_writers_queue_and_lose_nothing(database: Database) -> None:
    """Read, then write, from eight threads: with the lock taken at the start no update is lost."""
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


def test_writers_of_two_processes_queue_and_lose_nothing(database: Database) -> None:
    """Read, then write, from two databases as two processes have them."""
    with database.writing() as tx:
        resources.insert_resource(tx, Resource("r", "s", "g", "0"), START)

    def count(one: Database) -> None:
        for _ in range(20):
            with one.writing() as tx:
                resource = resources.get(tx, "r")
                assert resource is not None
                value = {"account": str(int(resource.account) + 1)}
                tx.execute(schema.resources.update().values(value))

    with databases.opened_again(database) as other:
        threads = [threading.Thread(target=count, args=(one,)) for one in (database, other, database, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with database.reading() as tx:
        assert resources.get(tx, "r") == Resource("r", "s", "g", "80")


def test_write_is_refused_while_another_process_writes(
    database: Database, database_kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database_kind == "sqlite":
        monkeypatch.setattr(sqlite_database, "BUSY_TIMEOUT_MS", 20)
    else:
        monkeypatch.setattr(postgres_database, "BUSY_TIMEOUT_S", 1.0)
    with databases.opened_again(database) as second:
        with database.writing(), pytest.raises(Unavailable, match="Try again"), second.writing():
            pass
        with second.writing():
            pass


def test_transaction_that_raises_leaves_nothing_behind(database: Database) -> None:
    def insert_twice() -> None:
        with database.writing() as tx:
            for _ in range(2):
                resources.insert_resource(tx, Resource("r", "s", "g", "a"), START)

    with pytest.raises(IntegrityError):
        insert_twice()
    with database.writing() as tx:
        assert resources.get(tx, "r") is None


def test_age_grows_with_each_row_and_never_shrinks(database: Database) -> None:
    with database.writing() as tx:
        resources.insert_resource(tx, keys.DEFAULT_RESOURCE, START)
        before = installation.age(tx)
        jobs.insert_job(tx, JOB)
        jobs.delete(tx, JOB.id)
    with database.reading() as tx:
        assert (before, installation.age(tx)) == (0, 1)


def test_event_data_comes_as_the_text_that_was_written(database: Database) -> None:
    data = {"z": 1.0, "a": [1e-7, "\u00fc\u0000", 12345678901234567890], "code": "example_losses_file"}
    event = Event("e", JOB.id, START, EventLevel.INFO, EventType.MESSAGE, "m", data)
    with database.writing() as tx:
        resources.insert_resource(tx, keys.DEFAULT_RESOURCE, START)
        jobs.insert_job(tx, JOB)
        events.insert_events(tx, [event])
    with database.reading() as tx:
        [listed], _ = events.list_page(tx, event.job_id, None, 5)
        assert isinstance(listed.data, JsonText)
        assert list(listed.data.items()) == list(data.items())
        assert events.data_of_first(tx, event.job_id, EventCode.EXAMPLE_LOSSES_FILE) == data


def test_migration_by_two_processes_at_once_is_done_once(tmp_path: Path, database_kind: str) -> None:
    code = (
        "import sys; from pathlib import Path; from luthier.store import db; kind, place = sys.argv[1:]; "
        "(db.open_database(Path(place)) if kind == 'sqlite' else db.open_postgres(place)).close()"
    )
    with databases.empty_place(database_kind, tmp_path) as place:
        started = [subprocess.Popen([sys.executable, "-c", code, database_kind, place]) for _ in range(3)]
        assert [process.wait(60) for process in started] == [0, 0, 0]
        with databases.at_place(database_kind, place) as database, database.reading() as tx:
            assert database.is_newest()
            assert installation.get(tx).blob_prefix is None
