"""What PostgreSQL refuses; a server that stops, crashes and comes back: clear words, no credentials, nothing lost."""

import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from pydantic import ValidationError
from sqlalchemy import select, text

import databases
import postgres
from luthier.cli import faults
from luthier.core.errors import Conflict, InvalidRequest, LuthierError, NoSpace, Unavailable
from luthier.core.models import Resource
from luthier.settings import Settings
from luthier.store import db, schema, tables
from luthier.store.databases import postgres_database
from luthier.store.db import Database
from luthier.store.queries import resources

START = datetime(2026, 11, 22, tzinfo=UTC)
PASSWORD = "not-to-be-seen"
# What the server raises by itself only if it is full or in trouble is raised here by its procedural language.
RAISE = "DO $$ BEGIN RAISE EXCEPTION 'a user''s text' USING ERRCODE = '{state}'; END $$"


@pytest.fixture
def database_kind() -> str:
    return "postgres"


@pytest.fixture
def server() -> Iterator[postgres.Server]:
    """A server that the test may kill: what it has answered must be kept then, so it commits in earnest."""
    if (reason := postgres.missing()) is not None:
        pytest.skip(reason)
    made = postgres.Server.create(synchronous_commit="on")
    yield made
    made.remove()


@pytest.mark.parametrize(
    ("state", "kind", "words"),
    [
        ("53100", NoSpace, "disk of the database is full"),
        ("55P03", Unavailable, "too many writes"),
        ("40001", Unavailable, "too many writes"),
        ("57P01", Unavailable, "cannot be reached"),
        ("25006", Unavailable, "cannot be reached"),
    ],
)
def test_refusal_of_the_server_is_an_error_in_clear_words(
    database: Database, state: str, kind: type[LuthierError], words: str
) -> None:
    for by_driver in (True, False):
        with pytest.raises(kind, match=words) as caught, database.writing() as tx:
            tx.exec_driver_sql(RAISE.format(state=state)) if by_driver else tx.execute(text(RAISE.format(state=state)))
        assert "user's text" not in caught.value.message
    with database.writing() as tx:
        resources.insert_resource(tx, Resource("r", "s", "g", "a"), START)


@pytest.mark.parametrize(
    ("resource", "code"),
    [
        (Resource("r", "s" * 65, "g", "a"), "text_too_long"),
        (Resource("r", "s\0", "g", "a"), "invalid_text"),
    ],
)
def test_text_that_no_column_takes_is_the_callers_fault(database: Database, resource: Resource, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught, database.writing() as tx:
        resources.insert_resource(tx, resource, START)
    assert caught.value.code == code
    with pytest.raises(InvalidRequest), database.reading() as tx:
        resources.get(tx, "a\0b")


def test_server_that_is_not_there_is_named_without_its_password() -> None:
    database = db.connect_postgres(f"postgresql://luthier:{PASSWORD}@127.0.0.1:9/rows")
    with pytest.raises(Unavailable, match=r"database rows at 127.0.0.1:9 cannot be used: .*refused") as caught:
        database.migrate()
    with pytest.raises(Unavailable, match="cannot be reached"), database.reading():
        pass
    numbers = {database.version() for _ in range(3)}
    database.close()
    assert len(numbers) == 3  # nothing is cached
    assert PASSWORD not in f"{caught.value} {caught.value.__cause__} {database.description}"


@pytest.mark.parametrize("url", [f"mysql://u:{PASSWORD}@h/d", f"postgresql://u:{PASSWORD}@h/d?no_such_option=1"])
def test_url_that_cannot_be_read_is_refused_without_being_shown(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_DATABASE_URL", url)
    try:
        settings = Settings()
        assert settings.database_url is not None
        with pytest.raises(InvalidRequest, match="cannot be read") as caught:
            db.connect_postgres(settings.database_url.get_secret_value())
        words = f"{caught.value} {settings}"
    except ValidationError as error:
        words = faults.invalid_settings(error)
        assert "LUTHIER_DATABASE_URL" in words
    assert PASSWORD not in words


def test_database_of_another_program_or_of_a_newer_version_is_refused_and_not_changed() -> None:
    with postgres.new_database(is_empty=True) as url:
        database = db.connect_postgres(url)
        with database.writing() as tx:
            tx.exec_driver_sql("CREATE TABLE commit_counter (id int, number bigint)")
            tx.exec_driver_sql("CREATE TABLE files (name text)")
        with pytest.raises(Conflict, match="another program"):
            database.migrate()
        with database.writing() as tx:
            tx.exec_driver_sql("CREATE TABLE alembic_version (version_num varchar(32))")
            tx.exec_driver_sql("INSERT INTO alembic_version VALUES ('ffff')")
        with pytest.raises(Conflict, match="newer version"):
            database.migrate()
        with database.reading() as tx:
            assert not tx.dialect.has_table(tx, "jobs")
        database.close()


def test_revisions_after_the_first_of_postgres_go_down_and_up_again(database: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(db.__file__).with_name("migrations")))
    with database.writing() as tx:
        config.attributes["connection"] = tx
        command.downgrade(config, "0021")
    database.migrate()
    with database.reading() as tx:
        assert compare_metadata(MigrationContext.configure(tx), tables.metadata) == []


def test_session_that_the_server_ended_is_replaced_before_anybody_notices(database: Database) -> None:
    with database.reading() as one, database.reading() as two:
        assert one is not two
    with databases.opened_again(database) as other, other.writing() as tx:
        tx.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid != pg_backend_pid()"
        )
    for _ in range(3):
        with database.reading() as tx:
            assert resources.get(tx, "r") is None
        with database.writing() as tx:
            assert resources.get(tx, "r") is None


def test_writer_that_stops_in_its_transaction_holds_up_nobody_for_ever(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_database, "PAUSE_S", 1)
    with databases.opened_again(database) as other:

        def stop_and_go_on() -> None:
            with database.writing() as stopped:
                resources.insert_resource(stopped, Resource("late", "s", "g", "late"), START)
                with other.writing() as tx:  # its turn comes when the server ends the first one
                    resources.insert_resource(tx, Resource("r", "s", "g", "a"), START)
                resources.insert_key(stopped, "sha", "late", "key1", START)

        with pytest.raises(Unavailable):
            stop_and_go_on()
        with database.reading() as tx:
            assert resources.get(tx, "late") is None
            assert resources.get(tx, "r") is not None


def test_nothing_that_was_answered_is_lost_when_the_server_stops_and_crashes(server: postgres.Server) -> None:
    """Four writers of two processes; the server is stopped once and killed twice."""
    name = server.create_database()
    database, other = db.open_postgres(server.url(name)), db.open_postgres(server.url(name))
    answered: list[str] = []
    refused: list[LuthierError] = []
    is_over = threading.Event()

    def write(one: Database, writer: int) -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            id = f"r{writer}-{number}"
            try:
                with one.writing() as tx:
                    resources.insert_resource(tx, Resource(id, "s", "g", id), START)
                answered.append(id)
            except Unavailable as error:
                refused.append(error)
                time.sleep(0.01)

    threads = [threading.Thread(target=write, args=(one, n)) for n, one in enumerate((database, other) * 2)]
    for thread in threads:
        thread.start()
    for how in (signal.SIGQUIT, signal.SIGINT, signal.SIGQUIT):
        databases.wait_until_longer(answered, len(answered) + 20)
        server.stop(how)
        databases.wait_until(lambda: database.version() != database.version())  # the cache is off
        server.start()
    databases.wait_until_longer(answered, len(answered) + 20)
    is_over.set()
    for thread in threads:
        thread.join()
    databases.wait_until(lambda: database.version() == database.version())  # and on again
    with database.reading() as tx:
        stored = set(tx.execute(select(schema.resources.c.id)).scalars())
    database.close()
    other.close()
    assert set(answered) <= stored
    assert len(stored - set(answered)) <= len(refused)  # a commit whose answer was cut off may be there
    assert refused
    assert {error.code for error in refused} == {"database_unavailable"}
