"""The database: migrations build what the schema says, transactions queue, paging ends."""

import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import text

from luthier.core.errors import NoSpace
from luthier.core.models import Event, Resource
from luthier.core.roles import Role
from luthier.core.states import EventLevel, EventType
from luthier.store import db, deployments, events, jobs, resources, schema


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


def test_database_without_room_says_so_and_keeps_nothing_of_the_transaction(tmp_path: Path) -> None:
    database = db.make(tmp_path / "a.db")

    def fill() -> None:
        with database.writing() as tx:
            tx.exec_driver_sql("PRAGMA max_page_count = 1")  # SQLite takes the present size then
            for number in range(1000):
                resources.insert_resource(tx, Resource(f"r{number}", "s", "g" * 100, f"a{number}"), datetime.now(UTC))

    with pytest.raises(NoSpace, match="disk of the database is full"):
        fill()
    with database.reading() as tx:
        assert tx.execute(text("SELECT count(*) FROM resources")).scalar_one() == 0
    database.close()


def test_migration_to_attempts_keeps_jobs_and_knows_which_have_a_run(tmp_path: Path) -> None:
    database = db.Database(tmp_path / "a.db")
    config = Config()
    config.set_main_option("script_location", str(Path(db.__file__).with_name("migrations")))
    columns = (
        "id, resource_id, status, handle, starts, base_model, requested_model, training_file, method_sent, seed, "
        "extras, created_at, absorbed_bytes"
    )
    rest = "'b', 'b', 'f', 0, 1, '{}', 0, 0"
    with database.writing() as tx:
        config.attributes["connection"] = tx
        command.upgrade(config, "0001")
        resources.insert_resource(tx, Resource("r", "s", "g", "a"), datetime.now(UTC))
        for id, status, handle in (
            ("j1", "running", "NULL"),
            ("j2", "cancelled", "'pid:1@1'"),
            ("j3", "queued", "NULL"),
        ):
            tx.exec_driver_sql(f"INSERT INTO jobs ({columns}) VALUES ('{id}', 'r', '{status}', {handle}, 2, {rest})")
        event = Event("e", "j1", datetime.now(UTC), EventLevel.INFO, EventType.MESSAGE, "Job started.")
        events.insert_events(tx, [event])
    database.migrate()
    with database.reading() as tx:
        open_jobs, unreleased = jobs.list_open(tx), jobs.list_unreleased(tx)
        assert [(job.id, job.has_run) for job in open_jobs] == [("j1", True), ("j3", False)]
        assert [job.id for job in unreleased] == ["j2"]
        assert events.list_page(tx, "j1", None, 10) == ([event], False)
        assert tx.execute(text("PRAGMA foreign_key_check")).all() == []
    database.close()


def test_migration_to_idle_deployments_keeps_them_and_begins_to_count_now(tmp_path: Path) -> None:
    database = db.Database(tmp_path / "a.db")
    config = Config()
    config.set_main_option("script_location", str(Path(db.__file__).with_name("migrations")))
    with database.writing() as tx:
        config.attributes["connection"] = tx
        command.upgrade(config, "0002")
        resources.insert_resource(tx, Resource("r", "s", "g", "a"), datetime.now(UTC))
        tx.exec_driver_sql(
            "INSERT INTO deployments (resource_id, name, model, sku_name, sku_capacity, state, created_at, updated_at) "
            "VALUES ('r', 'd', 'm', 'Developer', 1, 'Succeeded', 5, 6)"
        )
    before = datetime.now(UTC).replace(microsecond=0)
    database.migrate()
    with database.reading() as tx:
        [kept] = deployments.list_all(tx, "r")
    assert (kept.name, kept.created_at.timestamp(), dict(kept.tags), kept.model_source) == ("d", 5e-6, {}, None)
    assert before <= kept.last_used_at == kept.sku_changed_at <= datetime.now(UTC)
    with database.writing() as tx:
        config.attributes["connection"] = tx
        command.downgrade(config, "0002")
        assert tx.execute(text("SELECT name FROM deployments")).scalar_one() == "d"
    database.close()


def test_migration_to_roles_makes_the_first_key_key1_and_it_opens_all_as_before(tmp_path: Path) -> None:
    database = db.Database(tmp_path / "a.db")
    config = Config()
    config.set_main_option("script_location", str(Path(db.__file__).with_name("migrations")))
    with database.writing() as tx:
        config.attributes["connection"] = tx
        command.upgrade(config, "0002")
        tx.exec_driver_sql("INSERT INTO resources VALUES ('default', 's', 'g', 'luthier', 0)")
        tx.exec_driver_sql("INSERT INTO api_keys VALUES ('hash', 'default', 'first', 0)")
    database.migrate()
    with database.reading() as tx:
        found = resources.principal_of_key(tx, "hash")
        assert found is not None
        assert (found.resource.account, found.key_name, found.roles) == ("luthier", "key1", {Role.OWNER})
        assert tx.execute(text("PRAGMA foreign_key_check")).all() == []
    database.close()
