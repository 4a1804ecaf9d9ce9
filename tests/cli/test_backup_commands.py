"""luthier backup, luthier restore: what they print, and what they leave."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from openai import OpenAI
from typer.testing import CliRunner, Result

import rows
from luthier.cli.main import app
from luthier.service.context import Context

Command = Callable[..., Result]


@pytest.fixture
def luthier(context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    monkeypatch.setenv("LUTHIER_DATA_DIR", str(context.data_folder))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "luthier.toml").write_text("tick_s = 2.0\n")
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_backup_of_a_running_service_is_checked_and_restored(
    luthier: Command, openai_client: OpenAI, context: Context, tmp_path: Path
) -> None:
    file = openai_client.files.create(file=("rows.jsonl", rows.good()), purpose="fine-tune").id
    told = luthier("backup", ".", "--json", "--with-base-models")
    assert told.exit_code == 0, told.output
    about = json.loads(told.stdout)
    path = Path(about["path"])
    assert path.parent == tmp_path
    assert (about["missing"], about["base_models"]) == ([], ["smollm2-135m-instruct"])
    assert about["n_files"] > 3
    checked = luthier("restore", str(path), "--check", "--json")
    assert json.loads(checked.stdout) == about
    quiet = luthier("restore", str(path), "--data-dir", "new", "--quiet")
    assert (quiet.exit_code, quiet.output) == (0, "")
    assert (tmp_path / "new" / "blobs" / "files" / file).read_bytes() == rows.good()
    assert (tmp_path / "new" / "restored-settings" / "luthier.toml").read_text() == "tick_s = 2.0\n"
    assert (tmp_path / "new" / "api-key").read_bytes() == context.key_file.read_bytes()
    audit = luthier("audit", "--json", "--action", "backups/write").stdout
    assert json.loads(audit)[0]["who"] == "operator"


def test_command_that_cannot_do_it_says_why_in_one_line(luthier: Command, tmp_path: Path) -> None:
    assert luthier("backup", "one.tar").exit_code == 0
    for words, told in (
        ("exists", luthier("backup", "one.tar")),
        ("There is no folder", luthier("backup", "nowhere/one.tar")),
        ("is not empty", luthier("restore", "one.tar")),
        ("There is no file", luthier("restore", "two.tar", "--data-dir", "new")),
        ("not a whole backup", luthier("restore", "luthier.toml", "--data-dir", "new")),
    ):
        assert told.exit_code == 1
        assert words in told.stderr
        assert len(told.stderr.splitlines()) == 1
    assert not (tmp_path / "new").exists()
