"""luthier storage to-postgres: all rows of a stopped service's luthier.db in a new PostgreSQL database, or none."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from sqlalchemy import JSON, Connection, Text, select
from typer.testing import CliRunner, Result

import batch_runs
import postgres
import rows
import sharing
from fakes import BASE, KEY
from luthier import data_folder
from luthier.cli.main import app
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.files import files
from luthier.settings import Settings
from luthier.store import db, installation, schema, tables
from luthier.store.queries.leasing import leases

Command = Callable[..., Result]


@pytest.fixture
def target() -> Iterator[str]:
    with postgres.new_database(is_empty=True) as url:
        yield url


@pytest.fixture
def luthier(context: Context, target: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    monkeypatch.setenv("LUTHIER_DATA_DIR", str(context.data_folder))
    monkeypatch.setenv("LUTHIER_DATABASE_URL", target)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


@pytest.fixture
def used(url: str, context: Context, supervisor: Supervisor) -> Context:
    """A service that has rows in most tables, and that has deleted its newest file."""
    sharing.train(url, supervisor)
    with OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
        client.responses.create(model=BASE, input="Grüße \U0001f600", metadata={"a": "b"})
        client.webhooks.create(name="n", url="https://93.184.216.34/hook", event_types=["batch.completed"])
        client.uploads.create(bytes=10, filename="u.jsonl", mime_type="text/jsonl", purpose="fine-tune")
        lines = batch_runs.upload(client, [batch_runs.chat("a")])
        client.batches.create(input_file_id=lines, endpoint=batch_runs.CHAT, completion_window="24h")
        client.files.delete(client.files.create(file=("gone.jsonl", rows.good()), purpose="fine-tune").id)
    with context.database.writing() as tx:
        assert leases.take(tx, "supervisor", "elsewhere/0/1@1/0", timedelta(seconds=1)) is not None
    return context


def contents(tx: Connection) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table that is copied, JSON as it is written."""
    found = {}
    for table in tables.metadata.sorted_tables:
        if table is not schema.commit_counter:
            columns = [c.cast(Text()) if isinstance(c.type, JSON) else c for c in table.c]
            found[table.name] = sorted((tuple(row) for row in tx.execute(select(*columns))), key=repr)
    return found


def test_every_row_is_in_the_new_database_and_the_service_goes_on_there(
    used: Context, target: str, luthier: Command
) -> None:
    done = luthier("storage", "to-postgres", "--json")
    assert done.exit_code == 0, done.output
    counts = json.loads(done.stdout)["rows"]
    moved = db.open_postgres(target)
    try:
        with used.database.reading() as before, moved.reading() as after:
            expected, copied = contents(before), contents(after)
            assert copied == expected
            assert counts == {name: len(found) for name, found in expected.items()}
            filled = {name for name, found in expected.items() if found}
            assert filled >= {"files", "jobs", "events", "responses", "batches", "webhook_endpoints", "uploads"}
            assert installation.age(after) == installation.age(before), "no number of a row is given again"
        with data_folder.open_data(Settings()) as context:
            file = files.create(context, "default", "new.jsonl", "user_data", context.blobs.put("files/x", [b"x"]))
            assert files.get(context, "default", file.id) == file
        with moved.reading() as tx:
            numbers = list(tx.execute(select(schema.files.c.seq).order_by(schema.files.c.seq)).scalars())
        assert numbers[-1] > max(row[0] for row in expected["files"]) + 1, "the deleted file's number is not used again"
    finally:
        moved.close()


def test_database_that_has_rows_is_refused_and_left_as_it_is(used: Context, target: str, luthier: Command) -> None:
    assert luthier("storage", "to-postgres", "--quiet").exit_code == 0
    moved = db.open_postgres(target)
    with moved.reading() as tx:
        before = contents(tx)
    again = luthier("storage", "to-postgres")
    assert again.exit_code == 1
    assert "it is in use" in again.stderr
    with moved.reading() as tx:
        assert contents(tx) == before
    moved.close()


def test_folder_of_a_running_service_is_refused(used: Context, luthier: Command) -> None:
    held = data_folder.lock(Settings(data_dir=used.data_folder), "luthier serve", "http://127.0.0.1:8000")
    try:
        refused = luthier("storage", "to-postgres")
    finally:
        held.release()
    assert refused.exit_code == 1
    assert "is in use" in refused.stderr


def test_row_that_postgresql_cannot_hold_is_named_and_nothing_is_copied(
    used: Context, target: str, luthier: Command
) -> None:
    blob = used.blobs.put("files/x", [b"x"])
    files.create(used, "default", "a\0b.jsonl", "user_data", blob)
    refused = luthier("storage", "to-postgres", "--json")
    assert refused.exit_code == 1
    error = json.loads(refused.stderr.splitlines()[-1])["error"]
    assert (error["code"], "table files" in error["message"]) == ("row_not_storable", True)
    moved = db.open_postgres(target)
    with moved.reading() as tx:
        assert {name for name, found in contents(tx).items() if found} == {"installation"}
    moved.close()


def test_without_a_url_or_without_rows_there_is_nothing_to_copy(
    luthier: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LUTHIER_DATA_DIR", str(tmp_path / "nothing"))
    assert "is not the data folder" in luthier("storage", "to-postgres").stderr
    monkeypatch.delenv("LUTHIER_DATABASE_URL")
    assert "LUTHIER_DATABASE_URL" in luthier("storage", "to-postgres").stderr
