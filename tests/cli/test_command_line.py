"""The first contact: help comes fast and imports nothing heavy, and a wrong command line is one line."""

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import luthier
from luthier.cli.main import SECTIONS, app

Command = Callable[..., Result]
HEAVY = ["asyncio", "cryptography", "fastapi", "httpcore2", "httpx2", "jinja2", "llguidance", "matplotlib", "numpy"]
HEAVY += ["openai", "pydantic", "sqlalchemy", "tokenizers", "torch", "transformers", "uvicorn", "yaml"]
SUMMARIES = {name: summary for commands in SECTIONS.values() for name, summary in commands.items()}
GROUPS = ("models", "files", "jobs", "deployments", "resources", "keys", "storage")
HELP = [
    (),
    *((name,) for name in SUMMARIES),
    ("jobs", "create"),
    ("jobs", "losses"),
    ("models", "pull"),
    ("files", "upload"),
]
MAX_PROCESSOR_S = 0.45
"""Half as much again as is promised, for a busy machine; importing the openai SDK or pydantic alone exceeds it."""


@pytest.fixture
def luthier_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    for name in ("LUTHIER_URL", "LUTHIER_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LUTHIER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("arguments", HELP, ids=lambda arguments: " ".join(arguments) or "luthier")
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    code = f"import sys; sys.argv = ['luthier', *{arguments!r}, '--help']; from luthier.__main__ import run\n"
    code += f"try: run()\nfinally: print('heavy:', *sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"Usage: {' '.join(['luthier', *arguments])} ")
    assert done.stdout.splitlines()[-1] == "heavy:"


@pytest.mark.parametrize("arguments", [(), ("jobs", "create"), ("train",)], ids=lambda arguments: " ".join(arguments))
def test_help_takes_little_processor_time(arguments: tuple[str, ...]) -> None:
    assert min(processor_s(*arguments, "--help") for _ in range(3)) < MAX_PROCESSOR_S


def processor_s(*arguments: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "luthier", *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("name", SUMMARIES)
def test_summary_of_a_command_is_how_its_own_help_begins(luthier_command: Command, name: str) -> None:
    text = " ".join(luthier_command(name, "--help").stdout.split())
    assert SUMMARIES[name] in text


@pytest.mark.parametrize("option", ["--version", "-V"])
def test_version_is_printed(luthier_command: Command, option: str) -> None:
    assert luthier_command(option).stdout == f"luthier {luthier.__version__}\n"


@pytest.mark.parametrize("group", GROUPS)
def test_group_without_a_command_prints_its_help_and_exits_with_2(luthier_command: Command, group: str) -> None:
    done = luthier_command(group)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "Commands:" in done.stderr


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train --epochs two", "--epochs is 'two': it must be a whole number. See: luthier train --help"),
        ("train --schedule quadratic", "--schedule is 'quadratic': it must be linear, cosine or constant."),
        ("train --full=3", "Option '--full' does not take a value."),
        ("jobs create --model x", "Missing option '--data'. See: luthier jobs create --help"),
        ("jobs list --bogus", "No such option: --bogus. See: luthier jobs list --help"),
        ("jobs creat", "There is no command 'creat' (did you mean create?). See: luthier jobs --help"),
        ("sevre", "There is no command 'sevre' (did you mean serve?)."),
        ("chat x y --temperature 5", "--temperature is '5': it must be at most 2"),
        ("serve --port x", "--port is 'x': it must be a whole number."),
        ("check nothing.jsonl", "file 'nothing.jsonl' does not exist."),
        ("storage empty --before yesterday", "--before: 'yesterday' does not match the formats '%Y-%m-%d'."),
    ],
)
def test_wrong_command_line_is_one_line_and_exit_code_2(luthier_command: Command, line: str, words: str) -> None:
    done = luthier_command(*line.split())
    assert (done.exit_code, done.stdout) == (2, "")
    [message] = done.stderr.splitlines()
    assert words in message


def test_missing_key_and_unreachable_service_are_one_line_and_exit_code_1(
    luthier_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = luthier_command("jobs", "list")
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (1, 1)
    assert "No API key: set LUTHIER_API_KEY" in refused.stderr
    monkeypatch.setenv("LUTHIER_API_KEY", "k")
    monkeypatch.setenv("LUTHIER_URL", "http://127.0.0.1:9")
    unreached = luthier_command("jobs", "list")
    assert (unreached.exit_code, len(unreached.stderr.splitlines())) == (1, 1)
    assert "No answer from http://127.0.0.1:9." in unreached.stderr
