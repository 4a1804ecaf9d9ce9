"""A trainer that is no process we can see: alive while it holds the run's lock, and ended by the loss of it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from luthier.core.states import RunState
from luthier.core.training.executor_port import RunNeeds
from luthier.executors.local import LocalExecutor
from waiting import until

TRAINER = """
import pathlib, sys, time
from luthier.trainer.run.run_lock import Lock, RunTaken
run = pathlib.Path(sys.argv[1])
with Lock(run / "lock") as lock:
    (run / "lock").write_text("1")  # as it is called in its own container
    (run / "held").touch()
    try:
        while True:
            lock.check()
            time.sleep(0.02)
    except RunTaken:
        sys.exit(75)
"""


@pytest.fixture
def trainer(tmp_path: Path) -> "Iterator[subprocess.Popen[bytes]]":
    process = subprocess.Popen([sys.executable, "-c", TRAINER, str(tmp_path)])
    until((tmp_path / "held").exists, 30)
    yield process
    process.kill()
    process.wait()


def test_foreign_trainer_is_found_and_counted_until_it_has_ended(
    tmp_path: Path, trainer: "subprocess.Popen[bytes]"
) -> None:
    executor = LocalExecutor(jobs=1)
    handle = executor.find(tmp_path)
    assert handle is not None
    assert executor.look(handle) is RunState.ALIVE
    assert [node.busy_runs for node in executor.room({handle: RunNeeds(memory_bytes=1)})] == [1]
    trainer.kill()
    trainer.wait()
    assert executor.look(handle) is RunState.GONE
    assert executor.find(tmp_path) is None
    assert [node.busy_runs for node in executor.room({handle: RunNeeds(memory_bytes=1)})] == [0]


def test_foreign_trainer_that_is_stopped_has_exited_and_a_new_one_may_begin(
    tmp_path: Path, trainer: "subprocess.Popen[bytes]"
) -> None:
    executor = LocalExecutor()
    handle = executor.find(tmp_path)
    assert handle is not None
    executor.stop(handle)
    assert trainer.wait(10) == 75
    assert executor.look(handle) is RunState.GONE
    executor.stop(handle)


def test_foreign_trainer_that_is_only_asked_exits_after_its_step(
    tmp_path: Path, trainer: "subprocess.Popen[bytes]"
) -> None:
    executor = LocalExecutor()
    handle = executor.find(tmp_path)
    assert handle is not None
    executor.ask_to_stop(handle)
    assert trainer.wait(10) == 75
