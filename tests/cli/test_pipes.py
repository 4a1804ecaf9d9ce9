"""stdout holds the result alone; what cannot be written is one line; a reader may leave; Ctrl-C is quiet."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import rows
from fakes import BASE, EchoEngine
from luthier.cli.main import app

Command = Callable[..., Result]
LUTHIER = [sys.executable, "-m", "luthier"]


def test_upload_into_a_pipe_is_the_id_alone_also_where_stderr_is_a_terminal(
    luthier: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    [file_id] = luthier("files", "upload", "rows.jsonl").stdout.splitlines()
    assert file_id.startswith("file-")
    [job_id] = luthier("jobs", "create", "--model", BASE, "--data", "rows.jsonl").stdout.splitlines()
    assert job_id.startswith("ftjob-")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    drawn = luthier("files", "upload", "rows.jsonl")
    assert "rows.jsonl" in drawn.stderr, "the bar is on stderr"
    assert drawn.stdout.strip().startswith("file-")
    assert "rows.jsonl" not in drawn.stdout


def test_results_are_json_where_that_is_asked_for(luthier: Command) -> None:
    file = json.loads(luthier("files", "upload", "rows.jsonl", "--json").stdout)
    created = luthier("jobs", "create", "--model", BASE, "--data", file["id"], "--json")
    job = json.loads(created.stdout)
    assert (job["training_file"], job["object"]) == (file["id"], "fine_tuning.job")
    assert json.loads(luthier("jobs", "attempts", job["id"], "--json").stdout) == []
    assert json.loads(luthier("jobs", "cancel", job["id"], "--json").stdout)["status"] == "cancelled"
    assert luthier("jobs", "create", "--model", BASE, "--data", file["id"], "--json", "--watch").exit_code == 1


def test_conversation_in_pipes_is_the_answers_alone(engine: EchoEngine, luthier: Command) -> None:
    engine.says = ["Hello yourself.", "And again."]
    told = CliRunner().invoke(app, ["chat", BASE], input="Hello?\nAgain?\n")
    assert told.stdout.splitlines() == ["Hello yourself.", "And again."]
    assert told.stderr == ""


def test_file_comes_down_to_stdout_whole(luthier: Command, tmp_path: Path) -> None:
    file_id = luthier("files", "upload", "rows.jsonl").stdout.strip()
    assert luthier("files", "download", file_id, "-o", "-").stdout_bytes == rows.good()
    refused = luthier("files", "download", file_id, "-o", "nowhere/rows.jsonl")
    assert "There is no folder nowhere" in refused.stderr
    assert luthier("files", "download", "file-none", "-o", "kept.jsonl").exit_code == 1
    assert not [path for path in tmp_path.iterdir() if "kept" in path.name], "nothing half is left"


def test_download_never_puts_a_file_in_the_place_of_a_device_a_pipe_or_a_link(luthier: Command, tmp_path: Path) -> None:
    file_id = luthier("files", "upload", "rows.jsonl").stdout.strip()
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert luthier("files", "download", file_id, "-o", "pipe").exit_code == 0
        assert os.read(reader, 1 << 16) == rows.good()
    finally:
        os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to("target")
    assert luthier("files", "download", file_id, "-o", "link").exit_code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == rows.good()
    for folder in (".", str(tmp_path)):
        refused = luthier("files", "download", file_id, "-o", folder)
        assert (refused.exit_code, refused.stderr) == (1, f"{folder} is a folder. Name a file in it.\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [["files", "list", "--json"], ["--help"], ["jobs", "--help"]])
@pytest.mark.usefixtures("luthier")
def test_full_device_behind_stdout_is_one_line_and_a_status(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*LUTHIER, *arguments], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == "stdout could not be written to: No space left on device.\n"


@pytest.mark.usefixtures("luthier")
def test_reader_that_has_left_ends_a_command_without_a_word() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*LUTHIER, "files", "list", "--json"], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.usefixtures("luthier")
def test_closed_stdout_is_no_fault() -> None:
    shell = ["sh", "-c", '"$@" >&-', "sh", *LUTHIER, "files", "list", "--json"]
    done = subprocess.run(shell, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_interrupt_is_quiet_and_status_130_whenever_it_comes(luthier: Command) -> None:
    job_id = luthier("jobs", "create", "--model", BASE, "--data", "rows.jsonl").stdout.strip()
    for wait_s, words in ((3.0, f"luthier jobs watch {job_id}"), (0.1, "")):
        watching = subprocess.Popen(
            [*LUTHIER, "jobs", "watch", job_id],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Whoever runs these tests in the background has the signal ignored, and that is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        time.sleep(wait_s)
        watching.send_signal(signal.SIGINT)
        out, err = watching.communicate(timeout=30)
        assert watching.returncode in ({130} if words else {130, -signal.SIGINT})
        assert out == ""
        assert "Traceback" not in err
        assert words in err
