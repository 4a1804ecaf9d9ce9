"""What a person can mend is one line that names it, with the value and the fix; no traceback, whatever the command."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from luthier.cli import faults
from luthier.cli.main import app

Command = Callable[..., Result]
EVERY_KIND = (
    ("serve",),
    ("status",),
    ("models", "list"),
    ("models", "pull", "smollm2-135m-instruct"),
    ("files", "list"),
    ("keys", "list"),
    ("resources", "list"),
    ("storage", "show"),
    ("audit",),
    ("check", "rows.jsonl"),
    ("check", "rows.jsonl", "--model", "tiny"),
    ("show", "rows.jsonl", "1", "--model", "tiny"),
    ("train", "--model", "tiny", "--data", "rows.jsonl", "--out", "run"),
    ("reproduce", "ftjob-1"),
    ("import-jobs", "--from", "https://api.openai.com/v1", "--api-key", "k", "--dry-run"),
)


@pytest.fixture
def luthier(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    for name in ("LUTHIER_URL", "LUTHIER_API_KEY", "LUTHIER_CATALOG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LUTHIER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"messages": []}\n')
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def line_of(result: Result) -> str:
    """The one line that the command has said on stderr."""
    assert result.exit_code == 1, result.output
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    [line] = result.stderr.splitlines()
    return line


@pytest.mark.parametrize("arguments", EVERY_KIND, ids=" ".join)
def test_wrong_variable_is_one_line_in_every_command(
    luthier: Command, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUTHIER_SAVE_INTERVAL_S", "often")
    line = line_of(luthier(*arguments))
    assert "LUTHIER_SAVE_INTERVAL_S is 'often': it must be a number." in line


@pytest.mark.parametrize("arguments", EVERY_KIND, ids=" ".join)
def test_wrong_settings_file_is_one_line_in_every_command(
    luthier: Command, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "luthier.toml").write_text("prot = 8000\n")
    assert "prot of luthier.toml is no setting (did you mean port?)." in line_of(luthier(*arguments))
    (tmp_path / "luthier.toml").write_text("port = \n")
    assert "luthier.toml is not TOML: Invalid value (at line 1, column 8)." in line_of(luthier(*arguments))
    (tmp_path / "luthier.toml").write_bytes(b"port = 1 # \xff")
    assert "luthier.toml is not TOML: byte 12 is not UTF-8." in line_of(luthier(*arguments))
    (tmp_path / "luthier.toml").unlink()
    (tmp_path / "luthier.toml").mkdir()
    assert "luthier.toml in the working directory is a folder" in line_of(luthier(*arguments))


@pytest.mark.parametrize(("text", "why"), [(None, "No such file"), ("no PEM", "certificate")])
def test_file_of_an_authority_that_cannot_be_used_is_named(
    luthier: Command, text: str | None, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if text is not None:
        (tmp_path / "ca.pem").write_text(text)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("LUTHIER_URL", "https://127.0.0.1:9")
    monkeypatch.setenv("LUTHIER_API_KEY", "k")
    line = line_of(luthier("jobs", "list"))
    assert "ca.pem cannot be used: " in line
    assert why in line


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PORT", "65536", "LUTHIER_PORT is '65536': it must be at most 65535."),
        ("TICK_S", "0", "LUTHIER_TICK_S is '0': it must be more than 0"),
        ("TRAIN_DEVICE", "tpu", "LUTHIER_TRAIN_DEVICE is 'tpu': it must be 'auto', 'cpu' or 'cuda'."),
        ("IMPORT_HTTP", "maybe", "LUTHIER_IMPORT_HTTP is 'maybe': it must be true or false."),
        ("PRICE_CURRENCY", "euro", "LUTHIER_PRICE_CURRENCY is 'euro': it must match ^[A-Z]{3}$."),
        ("LOG_FORMAT", "xml", "LUTHIER_LOG_FORMAT is 'xml': it must be 'text' or 'json'."),
    ],
)
def test_setting_is_told_with_value_and_fix(
    luthier: Command, name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"LUTHIER_{name}", value)
    assert words in line_of(luthier("serve"))


def test_no_key_is_ever_shown(luthier: Command, tmp_path: Path) -> None:
    (tmp_path / "luthier.toml").write_text('sever_key = "a-secret-key"\nserver_key = 17171717\n')
    line = line_of(luthier("serve"))
    assert "sever_key of luthier.toml is no setting (did you mean server_key?)" in line
    assert "server_key of luthier.toml must be text" in line
    assert "secret" not in line
    assert "1717" not in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file or directory"),
        ("[[model]\n", "is no TOML"),
        ('[[model]]\nname = "A B"\n', "model[1].name is 'A B': it must match"),
        ("[[model]]\nname = 'x'\nlearning_rate = 'fast'\n", "model[1].learning_rate is 'fast': it must be a number"),
        ("[[modle]]\nname = 'x'\n", "modle is not known here"),
        ('[aliases]\n"gpt-4" = "nothing"\n', "which is no base model"),
        (b"\xff\xfe[", "is no TOML"),
    ],
)
def test_wrong_catalog_is_one_line_in_every_command_that_reads_it(
    luthier: Command, text: str | bytes | None, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "catalog.toml"
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    monkeypatch.setenv("LUTHIER_CATALOG", str(path))
    for arguments in EVERY_KIND:
        if arguments[0] in {"serve", "train"} or "pull" in arguments or "tiny" in arguments:
            line = line_of(luthier(*arguments))
            assert f"catalog {path}" in line, arguments
            assert words in line, arguments


def test_file_that_is_no_database_is_one_line(luthier: Command, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "luthier.db").write_bytes(b"no database at all " * 100)
    for arguments in (("keys", "list"), ("resources", "list"), ("storage", "show"), ("audit",), ("reproduce", "x")):
        assert "luthier.db cannot be used as the database: file is not a database" in line_of(luthier(*arguments))


@pytest.mark.parametrize("name", ["charts.bmp", "charts", "charts.svgz"])
def test_picture_of_another_format_is_refused_before_anything_is_asked(luthier: Command, name: str) -> None:
    assert "let it end in .svg, .png, .pdf." in line_of(luthier("jobs", "plot", "ftjob-1", "-o", name))


def test_slip_of_the_pen_in_a_variable_is_found_and_other_programs_names_are_not() -> None:
    environment = {"LUTHIER_DATADIR": "x", "LUTHIER_URL": "x", "LUTHIER_API_KEY": "x", "LUTHIER_KERNELS": "off"}
    assert faults.unknown_variables(environment) == ["LUTHIER_DATADIR is no setting (did you mean LUTHIER_DATA_DIR?)"]


def test_bug_of_ours_is_a_plain_traceback() -> None:
    broken = "from luthier.cli.admin import audit; audit.data_folder = None"
    code = f"{broken}; from luthier.cli import main; main.app(['audit'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert "AttributeError" in done.stderr.splitlines()[-1]
