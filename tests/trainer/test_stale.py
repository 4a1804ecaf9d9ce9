"""A trainer that was stopped, given up and replaced wakes late: it leaves, and touches nothing."""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from luthier.run_directory.run_directory import EXIT_LOCKED, RunDirectory
from luthier.trainer.run.event_log import EventLog
from luthier.trainer.run.run_lock import Lock, RunTaken
from runs import MakeRun, contents, events, start
from waiting import until


@pytest.fixture
def asleep(make_run: MakeRun) -> Iterator[tuple[RunDirectory, subprocess.Popen[bytes]]]:
    """A long run whose process is stopped in the middle of its steps."""
    run = make_run("run", n_epochs=50)
    process = start(run)
    until(lambda: sum(event["kind"] == "metrics" for event in events(run)) >= 3)
    process.send_signal(signal.SIGSTOP)
    until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
    yield run, process
    process.kill()
    process.wait()


def test_trainer_that_wakes_to_a_removed_run_leaves_and_does_not_bring_it_back(
    asleep: tuple[RunDirectory, subprocess.Popen[bytes]],
) -> None:
    run, process = asleep
    shutil.rmtree(run.path)
    process.send_signal(signal.SIGCONT)
    assert process.wait(120) == EXIT_LOCKED
    assert not run.path.exists()


def test_trainer_that_wakes_beside_a_new_one_leaves_and_the_new_one_ends_as_a_calm_one(
    asleep: tuple[RunDirectory, subprocess.Popen[bytes]], make_run: MakeRun
) -> None:
    run, process = asleep
    calm = make_run("calm", n_epochs=50)
    shutil.rmtree(run.path)
    shutil.copytree(calm.path, run.path)
    new = start(run)
    until(lambda: sum(event["kind"] == "metrics" for event in events(run)) >= 1)
    process.send_signal(signal.SIGCONT)
    assert process.wait(120) == EXIT_LOCKED
    assert new.wait() == 0
    assert [event["step"] for event in events(run) if event["kind"] == "metrics"] == list(range(1, 201))
    assert start(calm).wait() == 0
    assert contents(run) == contents(calm)


def test_lock_names_its_holder_and_knows_when_its_file_is_another(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with Lock(path) as lock:
        assert psutil.pid_exists(int(path.read_text()))
        with pytest.raises(RunTaken, match="another trainer"):
            Lock(path)
        lock.check()
        path.unlink()
        with pytest.raises(RunTaken, match="removed"):
            lock.check()
        path.touch()
        with pytest.raises(RunTaken, match="made anew"):
            lock.check()


def test_nothing_is_written_to_a_run_that_is_not_ours(make_run: MakeRun) -> None:
    run = make_run()

    def taken() -> None:
        raise RunTaken("gone")

    event_log = EventLog(run, taken)
    with pytest.raises(RunTaken):
        event_log.say("hello")
    assert not run.events.exists()
