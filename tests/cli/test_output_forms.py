"""--json and --quiet of every command: one JSON value, or ids one a line, on stdout; errors as JSON on stderr."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import typer
from openai import OpenAI
from typer.testing import CliRunner, Result

import rows
from fakes import BASE
from luthier.cli.main import app
from repository import ROOT

Command = Callable[..., Result]
WITHOUT = {
    "serve": "runs until it is stopped, and logs",
    "supervise": "the same",
    "engine-host": "the same",
    "demo": "tells a story to a reader",
}
"""Commands without the two options, each with the reason."""
PAGE = (ROOT / "docs" / "command-line-output.md").read_text()


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command with its path, hidden ones included."""
    group = group or typer.main.get_group(app)
    context = typer.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if hasattr(command, "list_commands"):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(commands())


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_has_json_and_quiet_and_a_row_in_the_page(path: str) -> None:
    options = {option for parameter in COMMANDS[path].params for option in parameter.opts}
    assert ({"--json", "--quiet", "-q"} <= options) is (path not in WITHOUT)
    hidden = COMMANDS[path].hidden
    assert re.search(rf"^\| `{path}`", PAGE, re.MULTILINE) or hidden, "docs/command-line-output.md has no row for it"


def test_page_names_no_command_that_is_not_there() -> None:
    named = re.findall(r"^\| `([a-z -]+)` \|", PAGE, re.MULTILINE)
    assert sorted(named) == sorted(path for path in COMMANDS if not COMMANDS[path].hidden)


@pytest.mark.usefixtures("working")
def test_json_is_one_value_and_quiet_is_ids_for_what_the_service_has(luthier: Command) -> None:
    file_id = luthier("files", "upload", "rows.jsonl", "-q").stdout.strip()
    assert file_id.startswith("file-")
    job_id, tuned = luthier("jobs", "create", "--model", BASE, "--data", file_id, "--watch", "-q").stdout.split()
    assert luthier("deployments", "create", "clippy", "--model", tuned, "--quiet").output == "clippy\n"
    for line, ids in (
        ("files show " + file_id, [file_id]),
        ("jobs list", [job_id]),
        ("jobs show " + job_id, [job_id]),
        ("jobs checkpoints " + job_id, [tuned, f"{tuned}:ckpt-step-2"]),
        ("jobs attempts " + job_id, ["1"]),
        ("deployments list", ["clippy"]),
        ("deployments show clippy", ["clippy"]),
        ("models show " + tuned, [tuned]),
        ("parity clippy", [tuned]),
        ("jobs events " + job_id, None),
        ("models list", None),
        ("batches list", []),
        ("status", None),
    ):
        quiet, as_json = luthier(*line.split(), "-q"), luthier(*line.split(), "--json")
        assert (quiet.exit_code, quiet.stderr, as_json.exit_code, as_json.stderr) == (0, "", 0, ""), line
        json.loads(as_json.stdout)
        printed = quiet.stdout.splitlines()
        assert all(id and not set(id) & set(" \t") for id in printed), line
        assert ids is None or [id.split(":ckpt")[0] for id in printed] == [id.split(":ckpt")[0] for id in ids], line
    assert luthier("files", "download", file_id, "-o", "back.jsonl", "-q").output == "back.jsonl\n"
    assert json.loads(luthier("deployments", "delete", "clippy", "--json").stdout) == [
        {"id": "clippy", "deleted": True}
    ]
    assert luthier("jobs", "delete", job_id, "-q").output == f"{job_id}\n"


def test_error_with_json_is_one_line_in_the_shape_of_the_api(luthier: Command) -> None:
    for line, exit_code, code in (
        ("jobs show ftjob-none", 1, "job_not_found"),
        ("jobs create --model none --data rows.jsonl", 1, "model_not_found"),
        ("jobs list --bogus", 2, "usage"),
        ("jobs creat", 2, "usage"),
        ("jobs events x --follow", 1, "usage"),
    ):
        failed = luthier(*line.split(), "--json")
        assert (failed.exit_code, failed.stdout) == (exit_code, ""), line
        [last] = failed.stderr.splitlines()
        error = json.loads(last)["error"]
        assert set(error) == {"code", "message", "param"}
        assert error["code"] == code, (line, error)
        assert not failed.stderr.startswith(" ")
    plain = luthier("jobs", "show", "ftjob-none", "-q")
    assert (plain.exit_code, len(plain.stderr.splitlines())) == (1, 1), "quiet still says why"
    assert "{" not in plain.stderr


def test_what_is_deleted_is_printed_although_a_later_one_fails(luthier: Command) -> None:
    file_id = luthier("files", "upload", "rows.jsonl").stdout.strip()
    failed = luthier("files", "delete", file_id, "file-none", "--json")
    assert failed.exit_code == 1
    assert json.loads(failed.stdout) == [{"id": file_id, "deleted": True}]
    assert "error" in json.loads(failed.stderr)


def test_nothing_moves_with_json_or_quiet_in_a_terminal(luthier: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    for option in ("--json", "--quiet"):
        assert luthier("files", "upload", "rows.jsonl", option).stderr == ""
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("NO_COLOR", "1")
    uploaded = luthier("files", "upload", "rows.jsonl")
    assert (uploaded.stderr, "\x1b" in uploaded.stdout) == ("", False)


@pytest.mark.usefixtures("luthier")
def test_conversation_has_no_json(luthier: Command) -> None:
    assert "give QUESTION" in luthier("chat", BASE, "--json").stderr
    answer = json.loads(luthier("chat", BASE, "Hello", "--json").stdout)
    assert answer["object"] == "chat.completion"


@pytest.mark.usefixtures("working")
def test_tables_fit_80_columns_and_ids_stay_whole(
    luthier: Command, openai_client: OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "a-name-of-a-file-that-is-rather-long-for-a-terminal-of-eighty-columns.jsonl"
    file = openai_client.files.create(file=(long, rows.good()), purpose="fine-tune")
    arguments = ("--model", BASE, "--data", file.id, "--suffix", "clippy")
    job_id, tuned = luthier("jobs", "create", *arguments, "--watch").stdout.split()
    luthier("deployments", "create", "a-deployment-with-quite-a-long-name-that-fills-a-line", "--model", tuned)
    for name, value in {"TTY_COMPATIBLE": "1", "NO_COLOR": "1", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)
    for line, whole in (
        ("files list", [file.id, long]),
        ("jobs list", [job_id, tuned]),
        ("jobs events " + job_id, []),
        ("jobs checkpoints " + job_id, [tuned, f"{tuned}:ckpt-step-2"]),
        ("jobs attempts " + job_id, []),
        ("models list --aliases", [tuned]),
        ("deployments list", [tuned, "a-deployment-with-quite-a-long-name-that-fills-a-line"]),
        ("engines", []),
        ("parity " + tuned, [tuned]),
    ):
        shown = luthier(*line.split())
        assert shown.exit_code == 0, shown.output
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.stdout)
        table = [text for text in plain.splitlines() if not text.startswith("Every")]
        too_wide = [text for text in table if len(text) > 80 and " " in text.strip()]
        assert not too_wide or line.startswith(("jobs events", "parity")), (line, too_wide)
        for id in whole:
            assert any(id in text for text in plain.splitlines()), (line, id, plain)


def test_a_sentence_in_a_table_is_folded_between_words(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from luthier.cli.screen import table

    for name, value in {"TTY_COMPATIBLE": "1", "NO_COLOR": "1", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)
    table(("name", "reason"), [("clippy", "word " * 40)])
    lines = [line for line in capsys.readouterr().out.splitlines() if "word" in line]
    assert [len(line) <= 80 for line in lines] == [True] * 3
    assert sum(line.count("word") for line in lines) == 40


def test_version_is_not_a_command_and_needs_neither() -> None:
    assert CliRunner().invoke(app, ["--version"]).exit_code == 0
