"""What every Executor promises, over every implementation. The trainer is the real one on an empty directory."""

import os
import signal
from pathlib import Path

import pytest

from luthier.core.ports import Executor
from luthier.core.states import RunState
from luthier.executors.local import LocalExecutor
from luthier.run_directory import DEVICE_VARIABLE, RunDirectory

SLEEPER = "#!/bin/sh\nexec sleep 60\n"
STUBBORN = "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 1; done\n"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


@pytest.fixture
def executor(tmp_path: Path) -> Executor:
    return LocalExecutor(program(tmp_path, SLEEPER))


def program(folder: Path, text: str) -> Path:
    path = folder / "program"
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_started_run_is_alive_until_it_is_stopped(executor: Executor, run: Path) -> None:
    handle = executor.start(run)
    assert executor.look(handle) is RunState.ALIVE
    executor.stop(handle)
    assert executor.look(handle) is RunState.GONE
    executor.stop(handle)


def test_killed_run_is_gone(executor: Executor, run: Path) -> None:
    handle = executor.start(run)
    pid = int(handle.removeprefix("pid:").partition("@")[0])
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert executor.look(handle) is RunState.GONE


def test_handle_is_found_by_another_executor_and_a_reused_pid_is_not_it(executor: Executor, run: Path) -> None:
    handle = executor.start(run)
    other = LocalExecutor()
    assert other.look(handle) is RunState.ALIVE
    pid = handle.partition("@")[0]
    assert other.look(f"{pid}@1.00") is RunState.GONE
    other.stop(f"{pid}@1.00")
    assert executor.look(handle) is RunState.ALIVE
    executor.stop(handle)


def test_stubborn_run_is_killed_after_the_grace(tmp_path: Path, run: Path) -> None:
    executor = LocalExecutor(program(tmp_path, STUBBORN), stop_grace_s=0.2)
    handle = executor.start(run)
    executor.stop(handle)
    assert executor.look(handle) is RunState.GONE


def test_run_writes_into_its_own_log(tmp_path: Path, run: Path) -> None:
    executor = LocalExecutor(program(tmp_path, "#!/bin/sh\necho $1 $2 to stderr >&2\n"))
    handle = executor.start(run)
    pid = int(handle.removeprefix("pid:").partition("@")[0])
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert RunDirectory(run).log.read_text() == "-m luthier.trainer to stderr\n"
    assert executor.look(handle) is RunState.GONE


def test_run_is_told_the_device_and_nothing_where_none_is_named(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DEVICE_VARIABLE, raising=False)
    teller = program(tmp_path, f'#!/bin/sh\necho "device: ${DEVICE_VARIABLE}"\n')
    for device in ("cpu", None):
        executor = LocalExecutor(teller, device=device)
        handle = executor.start(run)
        pid = int(handle.removeprefix("pid:").partition("@")[0])
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert executor.look(handle) is RunState.GONE
    assert RunDirectory(run).log.read_text() == "device: cpu\ndevice: \n"
