"""`luthier import-jobs` as typed: plan, question, JSON, keys. The import itself: tests/wire/account_import."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openai import OpenAI
from typer.testing import CliRunner, Result

import openai_account as fake
import rows
from fakes import BASE, KEY
from luthier.cli.main import app
from openai_account import FakeAccount

Command = Callable[..., Result]


@pytest.fixture
def account() -> Iterator[FakeAccount]:
    made = FakeAccount()
    yield made
    made.close()


@pytest.fixture
def luthier(url: str, account: FakeAccount, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    for name in ("OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LUTHIER_URL", url)
    monkeypatch.setenv("LUTHIER_API_KEY", KEY)
    monkeypatch.setenv("LUTHIER_SOURCE_API_KEY", fake.KEY)
    monkeypatch.setenv("LUTHIER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, answer: str | None = None) -> Result:
        return CliRunner().invoke(app, ["import-jobs", "--from", account.url, *arguments], input=answer)

    return run


def test_plan_is_shown_asked_for_and_done(luthier: Command, openai_client: OpenAI, tmp_path: Path) -> None:
    shown = luthier("--recreate-jobs", "--dry-run")
    assert shown.exit_code == 0, shown.output
    plan = [line.split("\t") for line in shown.stdout.splitlines()]
    assert ["file", "file-train", "puppy [bold].jsonl", str(len(rows.good(12))), "import"] in plan
    assert any(line[:2] == ["job", "ftjob-rft"] and "method reinforcement cannot" in line[-1] for line in plan)
    assert any(line[:2] == ["job", "ftjob-done"] and f"train again on {BASE};" in line[-1] for line in plan)
    assert list(openai_client.files.list()) == []
    refused = luthier("--recreate-jobs", answer="n\n")
    assert "Nothing was imported." in refused.stdout
    assert list(openai_client.files.list()) == []
    done = luthier("--recreate-jobs", answer="y\n")
    assert done.exit_code == 0, done.output
    assert "Imported: 1 files, 3 archives" in done.stdout
    assert len(list(openai_client.fine_tuning.jobs.list())) == 1
    [results] = (tmp_path / "data" / "moving").glob("*/ftjob-done/results.csv")
    assert results.read_bytes() == fake.RESULTS
    assert fake.KEY not in "".join(path.read_text() for path in (tmp_path / "data" / "moving").glob("*.json"))


def test_json_tells_plan_outcome_and_what_was_left(luthier: Command, account: FakeAccount) -> None:
    told = json.loads(luthier("--recreate-jobs", "--map", f"{fake.MODEL}={BASE}", "--yes", "--json").stdout)
    assert [file["id"] for file in told["plan"]["files"]] == ["file-train"]
    assert told["plan"]["jobs"] == [
        {"id": "ftjob-done", "model": BASE, "notes": ["suffix 'custom suffix' becomes 'custom-suffix'"]}
    ]
    assert list(told["imported"]["jobs"]) == ["ftjob-done"]
    assert {left["id"] for left in told["left"]} == {"file-gone", "ftjob-gone", "ftjob-rft"}
    again = json.loads(luthier("--recreate-jobs", "--yes", "--json").stdout)
    assert again["here_already"] == told["imported"]["files"] | told["imported"]["jobs"]
    assert again["imported"] == {"files": {}, "archived": [], "jobs": {}}


def test_what_the_plan_promised_and_could_not_keep_ends_with_status_1(luthier: Command, account: FakeAccount) -> None:
    account.contents["file-train"] += b"{}"
    result = luthier("--yes", "--state", "state.json", "--results-folder", "old-account")
    assert result.exit_code == 1
    assert "not imported: file file-train puppy [bold].jsonl: the source sends more than" in result.stdout
    assert Path("old-account/ftjob-done/results.csv").exists()


def test_import_that_fails_says_how_to_continue(luthier: Command, account: FakeAccount, tmp_path: Path) -> None:
    def put_file_in_the_way(method: str, path: str) -> None:
        (tmp_path / "results").write_text("where a folder is to be made")

    account.before = put_file_in_the_way
    result = luthier("--yes", "--results-folder", "results")
    assert (result.exit_code, type(result.exception)) == (1, SystemExit)
    assert "Run the same command again to continue" in result.stderr


def test_wrong_use_is_one_readable_line_and_status_1(
    luthier: Command, account: FakeAccount, url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "torn.json").write_text("{")
    for arguments, words in (
        (("--json",), "give --yes or --dry-run"),
        (("--map", "a", "--yes"), "SOURCE-MODEL=BASE-MODEL"),
        (("--model", "nobody", "--yes"), "There is no model 'nobody' here"),
        (("--job", "ftjob-x", "--yes"), "The account has no job ftjob-x"),
        (("--state", "torn.json", "--yes"), "is not a state file of import-jobs"),
        (("--api-key", "sk-wrong", "--yes"), "refuses the key"),
        (("--to", account.url, "--yes"), "is also the service to import into"),
        (("--to", "http://127.0.0.1:9", "--yes"), "Is `luthier serve` running there?"),
        (("--results-folder", "torn.json", "--yes"), "torn.json"),
    ):
        result = luthier(*arguments)
        assert result.exit_code == 1, (arguments, result.output)
        assert words in result.stderr, (arguments, result.stderr)
        assert "sk-" not in result.output
        assert "Traceback" not in result.output
    monkeypatch.delenv("LUTHIER_SOURCE_API_KEY")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
    result = luthier("--yes")
    assert "No API key for 127.0.0.1" in result.stderr, "a vendor's key is for the vendor's hosts alone"


def test_vendors_endpoint_and_key_are_not_those_of_the_service_here(
    luthier: Command, account: FakeAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LUTHIER_URL")
    monkeypatch.delenv("LUTHIER_API_KEY")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", account.url.removesuffix("/v1"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai")
    monkeypatch.setenv("LUTHIER_DATA_DIR", "nothing-here")
    result = luthier("--yes")
    assert result.exit_code == 1
    assert "set LUTHIER_API_KEY" in result.stderr
    assert account.asked == []


def test_killed_command_lets_go_and_the_next_one_goes_on(
    luthier: Command, account: FakeAccount, openai_client: OpenAI
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def held_up(method: str, path: str) -> None:
        if path.endswith("/events"):
            reached.set()
            go_on.wait(60)

    account.before = held_up
    command = [sys.executable, "-m", "luthier", "import-jobs", "--from", account.url, "--recreate-jobs", "--yes"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as killed:
        assert reached.wait(60)
        second = luthier("--yes")
        assert second.exit_code == 1
        assert "Another import-jobs is using" in second.stderr
        killed.kill()
    go_on.set()
    told = json.loads(luthier("--recreate-jobs", "--yes", "--json").stdout)
    assert (told["imported"]["files"], len(told["imported"]["archived"])) == ({}, 3)
    assert len(told["imported"]["jobs"]) == len(list(openai_client.files.list())) == 1
