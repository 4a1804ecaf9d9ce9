"""No name, message or answer that somebody gave moves the cursor, sets a title or colours the operator's terminal."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from openai import OpenAI
from typer.testing import CliRunner, Result

import rows
from fakes import BASE, KEY, EchoEngine
from luthier.account_import.importer import Outcome, Skipped
from luthier.cli.account_import import import_screen
from luthier.cli.main import app
from luthier.core.states import EventCode
from luthier.service.context import Context
from luthier.service.jobs import job_events
from luthier.service.tenants import audit
from luthier.store.queries import events

ESC = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"
OBEYED = ("\x1b]", "\x1b[2J", "\x07", "\x9b", "\u202e", "\x7f")
"""What of it a terminal would obey; `ESC [ m` alone may be there, for our own colours."""
NAME = f"rows{ESC}[bold].jsonl"
Command = Callable[..., Result]


@pytest.fixture(params=["terminal", "pipe"])
def luthier(
    request: pytest.FixtureRequest, url: str, context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    for name, value in {"URL": url, "API_KEY": KEY, "DATA_DIR": str(context.data_folder)}.items():
        monkeypatch.setenv(f"LUTHIER_{name}", value)
    if request.param == "terminal":
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def assert_harmless(shown: str) -> None:
    for obeyed in OBEYED:
        assert obeyed not in shown, repr(shown)


def test_names_of_files_and_words_of_events_are_spelled_out_by_every_command(
    luthier: Command, openai_client: OpenAI, context: Context, engine: EchoEngine, tmp_path: Path
) -> None:
    file = openai_client.files.create(file=(NAME, rows.good()), purpose="fine-tune")
    (tmp_path / NAME).write_bytes(rows.good())
    job = openai_client.fine_tuning.jobs.create(model=BASE, training_file=file.id, metadata={ESC: ESC})
    with context.database.writing() as tx:
        events.insert_events(tx, [job_events.message(context, job.id, EventCode.NOTE, {"text": f"An event {ESC}"})])
    engine.says = [ESC]
    shown = {
        arguments: luthier(*arguments)
        for arguments in (
            ("files", "list"),
            ("files", "list", "--json"),
            ("files", "show", file.id),
            ("files", "upload", NAME),
            ("files", "upload", ESC),
            ("files", "delete", ESC),
            ("files", "download", file.id, "-o", NAME),
            ("jobs", "list"),
            ("jobs", "list", "--json"),
            ("jobs", "show", job.id),
            ("jobs", "show", ESC),
            ("jobs", "events", job.id),
            ("jobs", "events", job.id, "--json"),
            ("models", "show", ESC),
            ("deployments", "show", ESC),
            ("check", NAME),
            ("check", NAME, "--model", ESC),
            ("check", NAME, "--fix", NAME),
            ("keys", "revoke", ESC),
            ("keys", "create", "x", "--role", ESC),
            ("resources", "quota", "--set", ESC),
            ("resources", "show", ESC),
            ("chat", BASE, "Hello"),
        )
    }
    for arguments, result in shown.items():
        assert result.exception is None or isinstance(result.exception, SystemExit), arguments
        assert_harmless(result.output)
    assert "\\u001b[2J" in shown["files", "list"].output
    assert "\\u001b[2J" in shown["jobs", "events", job.id].output
    assert "\\u001b[2J" in shown["chat", BASE, "Hello"].output
    [kept] = [each for each in json.loads(shown["files", "list", "--json"].output) if each["id"] == file.id]
    assert kept["filename"] == NAME.replace("\x07", "%07")  # as the client sends it


def test_audit_lines_are_spelled_out(luthier: Command, context: Context) -> None:
    audit.append(context.audit_file, audit.make_entry(context.now(), "r", f"oidc:{ESC}", "a", "r", ESC, 200, "q"))
    assert_harmless(luthier("audit").output)
    printed = luthier("audit", "--json").output
    assert_harmless(printed)
    [entry] = json.loads(printed)
    assert entry["who"] == f"oidc:{ESC}"


def test_what_a_move_left_is_spelled_out(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    left = Skipped("file", ESC, NAME, f"refused: {ESC}")
    import_screen.print_outcome(Outcome(jobs={ESC: ESC}, skipped=[left]), tmp_path)
    shown = capsys.readouterr().out
    assert_harmless(shown)
    assert "\\u001b[2J" in shown
