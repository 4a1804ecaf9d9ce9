"""The SQLite file: its settings, its errors, and its migrations from every older schema."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

from luthier.core.errors import Conflict, NoSpace
from luthier.core.models import Event, Resource, ResourceName
from luthier.core.roles import Role
from luthier.core.states import EventCode, EventLevel, EventType
from luthier.service.jobs import job_events
from luthier.store import db, installation
from luthier.store.databases import revisions
from luthier.store.queries import attempts, copies, deployments, events, jobs, resources


def test_database_of_a_newer_version_is_refused_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    database = db.open_database(path)
    with database.writing() as tx:
        tx.execute(text("UPDATE alembic_version SET version_num = 'ffff'"))
    database.close()
    with pytest.raises(Conflict, match="newer version"):
        db.open_database(path)
    assert [opened for opened in psutil.Process().open_files() if opened.path.startswith(str(path))] == []


def test_database_is_in_wal_mode_and_checks_foreign_keys(tmp_path: Path) -> None:
    database = db.open_database(tmp_path / "a.db")
    with database.reading() as tx:
        assert tx.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert tx.execute(text("PRAGMA foreign_keys")).scalar() == 1
        assert tx.execute(text("PRAGMA synchronous")).scalar() == 2
    database.close()


def test_full_disk_rolls_the_transaction_back_with_an_error(tmp_path: Path) -> None:
    database = db.open_database(tmp_path / "a.db")

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
    database = db.SqliteDatabase(tmp_path / "a.db")
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


def test_migration_moves_early_stopping_out_of_the_extras_and_names_losses_files_in_data(tmp_path: Path) -> None:
    database = db.SqliteDatabase(tmp_path / "a.db")
    config = Config()
    config.set_main_option("script_location", str(Path(db.__file__).with_name("migrations")))
    columns = (
        "id, resource_id, status, extras, base_model, requested_model, training_file, method_sent, seed, created_at, "
        "absorbed_bytes"
    )
    rest = "'b', 'b', 'f', 0, 1, 0, 0"
    early = '{"early_stopping": {"patience": 3}, "metadata": {"a": "b"}}'
    with database.writing() as tx:
        config.attributes["connection"] = tx
        command.upgrade(config, "0010")
        resources.insert_resource(tx, Resource("r", "s", "g", "a"), datetime.now(UTC))
        for id, extras in (("j1", early), ("j2", '{"metadata": {"early_stopping": "no"}}')):
            tx.exec_driver_sql(f"INSERT INTO jobs ({columns}) VALUES ('{id}', 'r', 'queued', '{extras}', {rest})")
        tx.exec_driver_sql(
            "INSERT INTO attempts (id, job_id, number, started_at, last_step, ended_at, end, detail) "
            "VALUES ('a', 'j1', 1, 0, 7, 1, 'killed', 'was killed (signal 9)')"
        )
        words = "Completed example losses file: file-1"
        event = Event("e", "j1", datetime.now(UTC), EventLevel.INFO, EventType.MESSAGE, words)
        events.insert_events(tx, [event, replace(event, id="e2", message="Job started.")])
    database.migrate()
    with database.reading() as tx:
        first, second = jobs.list_open(tx)
        assert (first.early_stop_patience, first.extras) == (3, {"metadata": {"a": "b"}})
        assert (second.early_stop_patience, second.extras) == (None, {"metadata": {"early_stopping": "no"}})
        [attempt] = attempts.list_of_job(tx, "j1")
        assert (attempt.detail, attempt.signal) == ("was killed (signal 9)", None)
        assert job_events.outcome(attempt) == "was killed (signal 9)"
        named = {event.id: event.data for event in events.list_since(tx, "j1", None, 10)}
        assert named == {"e": {"code": EventCode.EXAMPLE_LOSSES_FILE, "file_id": "file-1"}, "e2": None}
    with database.writing() as tx:
        config.attributes["connection"] = tx
        command.downgrade(config, "0010")
        stored = tx.exec_driver_sql("SELECT extras FROM jobs WHERE id = 'j1'").scalar_one()
        assert json.loads(stored) == json.loads(early)
    database.close()


def test_migration_of_an_older_database_is_logged_and_a_new_one_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger=revisions.logger.name)
    config = Config()
    config.set_main_option("script_location", str(Path(db.__file__).with_name("migrations")))
    older = db.SqliteDatabase(tmp_path / "a.db")
    with older.writing() as tx:
        config.attributes["connection"] = tx
        command.upgrade(config, "0006")
    older.migrate()
    older.migrate()
    db.SqliteDatabase(tmp_path / "new.db").migrate()
    [line] = [record.getMessage() for record in caplog.records if record.name == revisions.logger.name]
    assert line.startswith("database migrated from=0006 to=")


def test_migration_to_idle_deployments_keeps_them_and_begins_to_count_now(tmp_path: Path) -> None:
    database = db.SqliteDatabase(tmp_path / "a.db")
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
    database = db.SqliteDatabase(tmp_path / "a.db")
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
        assert (found.resource.account, found.key_name, found.roles) == ("luthier", "key1", frozenset({Role.OWNER}))
        assert tx.execute(text("PRAGMA foreign_key_check")).all() == []
    database.close()


def test_migration_to_copies_by_name_keeps_them_and_goes_on_counting_their_rows(tmp_path: Path) -> None:
    database = db.SqliteDatabase(tmp_path / "a.db")
    config = Config()
    config.set_main_option("script_location", str(Path(db.__file__).with_name("migrations")))
    columns = "source_resource_id, copied_from, region, job_id, model, base_model, step, metrics, files, created_at"
    with database.writing() as tx:
        config.attributes["connection"] = tx
        command.upgrade(config, "0008")
        resources.insert_resource(tx, Resource("r", "s", "g", "A"), datetime.now(UTC))
        for id in ("c1", "c2", "c3"):
            tx.exec_driver_sql(
                f"INSERT INTO checkpoint_copies (id, resource_id, {columns}) "
                f"VALUES ('{id}', 'r', 'other', 'of-{id}', 'here', 'j', 'm-{id}', 'b', 2, '{{}}', '[\"a\"]', 5)"
            )
        tx.exec_driver_sql("DELETE FROM checkpoint_copies WHERE id = 'c3'")
        before = installation.age(tx)
    database.migrate()
    with database.writing() as tx:
        [kept, _] = copies.list_of_resource(tx, "r")
        assert (kept.id, kept.resource_id, kept.copied_from, kept.files) == ("c1", "r", "of-c1", ("a",))
        [sent] = copies.list_of_checkpoint(tx, "of-c1")
        assert (sent.destination, sent.checkpoint.resource_id) == (ResourceName("s", "g", "A"), "other")
        assert installation.age(tx) == before
        config.attributes["connection"] = tx
        command.downgrade(config, "0008")
        assert tx.execute(text("SELECT id, resource_id FROM checkpoint_copies")).all() == [("c1", "r"), ("c2", "r")]
        assert installation.age(tx) == before
        assert tx.execute(text("PRAGMA foreign_key_check")).all() == []
    database.close()
