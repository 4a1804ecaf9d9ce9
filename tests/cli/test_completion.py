"""Shell completion, by the protocol of the shells: ids and names from the service, soon, or nothing and silence."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openai import OpenAI
from typer.testing import Result

import rows
from fakes import BASE, KEY

Command = Callable[..., Result]
LUTHIER = [sys.executable, "-c", "import sys; sys.argv[0] = 'luthier'; from luthier.__main__ import run; run()"]
"""By its name, from which the variable of the protocol is derived."""
MAX_S = 8.0
"""A second is promised, on a machine that is not busy; without a deadline it would be the thirty of `completed`."""


def completed(line: str, **variables: str) -> list[str]:
    """What bash is offered for the last word of the line."""
    words = line.split(" ")
    protocol = {"_LUTHIER_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        LUTHIER,
        env=os.environ | protocol | variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_ids_and_names_are_those_of_the_service(luthier: Command, openai_client: OpenAI, tmp_path: Path) -> None:
    file = openai_client.files.create(file=("a [b].jsonl", rows.good()), purpose="fine-tune")
    job = openai_client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    (tmp_path / "other.txt").touch()
    assert completed("luthier jobs show ftjob-") == [job.id]
    assert completed("luthier jobs compare ") == [job.id]
    assert completed("luthier files show ") == [file.id]
    assert completed(f"luthier models show {BASE[:6]}")[0].startswith(BASE[:6])
    assert completed("luthier jobs create --data ro") == ["rows.jsonl"]
    assert completed("luthier jobs create --data file-") == [file.id]
    assert completed("luthier keys list --resource ") == ["luthier"]
    assert completed("luthier keys regenerate ") == ["key1", "key2"]
    assert completed("luthier jobs compare --metric full_valid_l") == ["full_valid_loss"]
    assert completed("luthier jobs sho") == ["show"]


@pytest.mark.usefixtures("working")
def test_deployments_are_completed(luthier: Command) -> None:
    assert luthier("deployments", "create", "clippy", "--model", BASE, "-q").exit_code in (0, 1)
    assert completed("luthier deployments show ") == ["clippy"]
    assert completed("luthier chat cl") == ["clippy"]


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_service_that_does_not_answer_is_silence_within_the_second(silent_server: str, tmp_path: Path) -> None:
    for url in (silent_server, "http://127.0.0.1:9", "no address", "http://[::"):
        started = time.monotonic()
        assert completed("luthier jobs show ", LUTHIER_URL=url, LUTHIER_API_KEY=KEY) == []
        assert time.monotonic() - started < MAX_S
    assert completed("luthier jobs show ", LUTHIER_API_KEY="", LUTHIER_DATA_DIR=str(tmp_path)) == []


@pytest.mark.usefixtures("luthier")
def test_key_that_is_refused_is_silence() -> None:
    assert completed("luthier jobs show ", LUTHIER_API_KEY="wrong") == []


def test_scripts_for_the_shells_are_printed() -> None:
    for shell in ("bash", "zsh", "fish"):
        done = subprocess.run(
            [*LUTHIER, "--show-completion", shell],
            env=os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
            capture_output=True,
            text=True,
        )
        assert "_LUTHIER_COMPLETE" in done.stdout or "_TYPER_COMPLETE_ARGS" in done.stdout, done
