"""The contract of the port Executor, over every implementation. The trainer is the real one on an empty directory."""

import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partialmethod
from pathlib import Path

import psutil
import pytest

from luthier.core.states import RunState
from luthier.core.training.executor_port import Ending, Executor
from luthier.executors.local import EXIT_LOOKS, LocalExecutor
from luthier.run_directory.run_directory import DEVICE_VARIABLE, RunDirectory

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


def test_run_that_is_asked_to_stop_exits_by_itself(executor: Executor, run: Path) -> None:
    handle = executor.start(run)
    executor.ask_to_stop(handle)
    deadline = time.monotonic() + 30
    while executor.look(handle) is RunState.ALIVE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    executor.ask_to_stop(handle)


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


@pytest.mark.skipif(sys.platform != "linux", reason="where the system tells the start of a process by the clock")
def test_run_is_found_again_after_the_clock_was_set(
    tmp_path: Path, run: Path, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel tells since when the machine is up by the clock as it is now: a day more after a step of a day."""
    handle = executor.start(run)
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / str(pid_of(handle))).symlink_to(f"/proc/{pid_of(handle)}")
    stat = Path("/proc/stat").read_text()
    up_since = int(stat.partition("btime ")[2].split()[0])
    (proc / "stat").write_text(stat.replace(f"btime {up_since}", f"btime {up_since + 86400}"))
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(proc))
    for collector in (executor, LocalExecutor()):
        assert collector.look(handle) is RunState.ALIVE
    executor.stop(handle)
    assert executor.look(handle) is RunState.GONE


def pid_of(handle: str) -> int:
    return int(handle.removeprefix("pid:").partition("@")[0])


def wait_for_end(handle: str) -> None:
    os.waitid(os.P_PID, pid_of(handle), os.WEXITED | os.WNOWAIT)


def test_end_of_a_child_is_known_by_its_status_or_signal(tmp_path: Path, run: Path) -> None:
    for text, expected in (
        ("#!/bin/sh\nexit 74\n", Ending(exit_status=74)),
        ("#!/bin/sh\nkill -SEGV $$\n", Ending(signal=signal.SIGSEGV)),
        ("#!/bin/sh\nkill -KILL $$\n", Ending(signal=signal.SIGKILL)),
    ):
        executor = LocalExecutor(program(tmp_path, text))
        handle = executor.start(run)
        wait_for_end(handle)
        assert executor.look(handle) is RunState.GONE
        assert executor.ending(handle) == expected
        assert LocalExecutor().ending(handle) == Ending(), "who was not its parent knows nothing"


@pytest.mark.parametrize(("rises", "number"), [(True, signal.SIGKILL), (False, signal.SIGKILL), (True, signal.SIGSEGV)])
def test_out_of_memory_is_reported_only_with_an_oom_kill_at_that_time(
    tmp_path: Path, run: Path, rises: bool, number: int
) -> None:
    kills = [7]
    executor = LocalExecutor(program(tmp_path, SLEEPER), memory_kills=lambda: kills[0])
    handle = executor.start(run)
    kills[0] = 8  # another process, long before
    for _ in range(EXIT_LOOKS):
        assert executor.look(handle) is RunState.ALIVE
    os.kill(pid_of(handle), number)
    kills[0] += rises
    wait_for_end(handle)
    assert executor.look(handle) is RunState.GONE
    assert executor.ending(handle) == Ending(signal=number, out_of_memory=rises and number == signal.SIGKILL)


def test_process_that_aborts_on_bad_alloc_is_out_of_memory(tmp_path: Path, run: Path) -> None:
    RunDirectory(run).log.write_text("terminate called after throwing an instance of 'std::bad_alloc' (last time)\n")
    for words, out_of_memory in (("std::bad_alloc", True), ("assertion failed", False)):
        executor = LocalExecutor(program(tmp_path, f"#!/bin/sh\necho {words}\nkill -ABRT $$\n"))
        handle = executor.start(run)
        wait_for_end(handle)
        assert executor.look(handle) is RunState.GONE
        assert executor.ending(handle) == Ending(signal=signal.SIGABRT, out_of_memory=out_of_memory)


@pytest.mark.parametrize("text", [SLEEPER, STUBBORN])
def test_killed_run_does_not_get_to_finish_its_step(tmp_path: Path, run: Path, text: str) -> None:
    executor = LocalExecutor(program(tmp_path, text))
    handle = executor.start(run)
    executor.kill(handle)
    assert executor.look(handle) is RunState.GONE
    assert executor.ending(handle) == Ending(signal=signal.SIGKILL)
    executor.kill(handle)


@pytest.mark.parametrize("end", [LocalExecutor.stop, LocalExecutor.kill])
def test_run_that_exits_while_a_later_service_ends_it_is_no_error(
    executor: Executor, run: Path, end: Callable[[LocalExecutor, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    handle, later = executor.start(run), LocalExecutor()

    def exit_first(process: psutil.Process, send: Callable[[psutil.Process], None]) -> None:
        os.kill(process.pid, signal.SIGKILL)
        os.waitpid(process.pid, 0)
        send(process)

    for name in ("terminate", "kill"):
        monkeypatch.setattr(psutil.Process, name, partialmethod(exit_first, getattr(psutil.Process, name)))
    end(later, handle)
    assert later.look(handle) is RunState.GONE
    assert executor.look(handle) is RunState.GONE


def test_stopped_process_counts_as_alive_and_can_be_killed(executor: Executor, run: Path) -> None:
    handle = executor.start(run)
    os.kill(pid_of(handle), signal.SIGSTOP)
    os.waitid(os.P_PID, pid_of(handle), os.WSTOPPED | os.WNOWAIT)
    assert executor.look(handle) is RunState.ALIVE
    executor.kill(handle)
    assert executor.look(handle) is RunState.GONE


def test_trainer_is_found_by_the_lock_of_its_run_and_no_other_process_is(tmp_path: Path, run: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from luthier.trainer.run.run_lock import Lock\n"
        "lock = Lock(Path(sys.argv[3]) / 'lock'); Path(sys.argv[3], 'held').touch(); time.sleep(60)"
    )
    holder = tmp_path / "holder.py"
    holder.write_text(code)
    python = program(tmp_path, f'#!/bin/sh\nexec {sys.executable} {holder} "$@"\n')
    executor, stranger = LocalExecutor(python), LocalExecutor()
    assert stranger.find(run) is None
    handle = executor.start(run)
    deadline = time.monotonic() + 60
    while not (run / "held").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert stranger.find(run) == handle
    (run / "lock").write_text(str(os.getpid()))
    foreign = stranger.find(run)
    assert foreign is not None, "the number is of another container: we are no trainer of this run, but it has one"
    assert foreign != handle
    assert stranger.look(foreign) is RunState.ALIVE
    executor.kill(handle)
    assert stranger.look(foreign) is RunState.GONE
    assert stranger.find(run) is None


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


def test_run_gets_the_device_only_if_one_is_set(tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DEVICE_VARIABLE, raising=False)
    teller = program(tmp_path, f'#!/bin/sh\necho "device: ${DEVICE_VARIABLE}"\n')
    for device in ("cpu", None):
        executor = LocalExecutor(teller, device=device)
        handle = executor.start(run)
        pid = int(handle.removeprefix("pid:").partition("@")[0])
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert executor.look(handle) is RunState.GONE
    assert RunDirectory(run).log.read_text() == "device: cpu\ndevice: \n"
