"""The room that this machine has: as many runs as it may have, while its memory allows."""

import os
from pathlib import Path

import psutil
import pytest

from luthier.core.training.executor_port import NodeRoom, RunNeeds
from luthier.executors import machine_memory
from luthier.executors.local import LocalExecutor

GIB = 2**30
SLEEPER = "#!/bin/sh\nexec sleep 60\n"


@pytest.fixture
def python(tmp_path: Path) -> Path:
    path = tmp_path / "program"
    path.write_text(SLEEPER)
    path.chmod(0o755)
    return path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def room(executor: LocalExecutor, **running: RunNeeds) -> NodeRoom:
    [node] = executor.room(running)
    return node


def test_machine_has_room_for_as_many_runs_as_are_set(python: Path, run: Path) -> None:
    executor = LocalExecutor(python, jobs=2, available_bytes=lambda: 8 * GIB)
    assert (room(executor).runs, room(executor).busy_runs, room(executor).takes_any_alone) == (2, 0, True)
    handle = executor.start(run, needs=RunNeeds(1, 0, 3 * GIB))
    busy = room(executor)
    assert (busy.runs, busy.busy_runs, busy.cpus) == (1, 1, max(2, os.cpu_count() or 1) - 1)
    assert busy.memory_bytes is not None
    assert 5 * GIB <= busy.memory_bytes < 5.1 * GIB, "what the run has not taken yet is set aside"
    executor.kill(handle)
    assert (room(executor).runs, room(executor).memory_bytes) == (2, 8 * GIB)


def test_run_of_unknown_memory_is_alone(python: Path, run: Path) -> None:
    executor = LocalExecutor(python, jobs=3, available_bytes=lambda: 8 * GIB)
    handle = executor.start(run)
    assert room(executor).runs == 0
    executor.kill(handle)


def test_runs_of_an_earlier_service_are_counted_and_ended_ones_are_not(python: Path, run: Path) -> None:
    earlier = LocalExecutor(python)
    handle = earlier.start(run)
    later = LocalExecutor(python, jobs=2, available_bytes=lambda: 8 * GIB)
    needs = RunNeeds(1, 0, 6 * GIB)
    busy = room(later, **{handle: needs, "pid:1@0.01": needs, "ray:elsewhere": needs})
    assert (busy.runs, busy.busy_runs) == (1, 1)
    assert busy.memory_bytes is not None
    assert busy.memory_bytes < 2.1 * GIB
    earlier.kill(handle)
    assert room(later, **{handle: needs}).runs == 2


def test_one_run_at_a_time_unless_more_are_set(python: Path, run: Path) -> None:
    executor = LocalExecutor(python, available_bytes=lambda: 0)
    assert room(executor).runs == 1
    handle = executor.start(run, needs=RunNeeds(1, 0, GIB))
    assert room(executor).runs == 0
    executor.kill(handle)


def test_exit_of_a_trainer_wakes_and_is_still_known_by_its_ending(python: Path, run: Path) -> None:
    import threading

    exited = threading.Event()
    executor = LocalExecutor(python)
    executor.wake_at_exits(exited.set)
    handle = executor.start(run)
    psutil.Process(int(handle.removeprefix("pid:").partition("@")[0])).kill()
    assert exited.wait(30)
    assert room(executor).runs == 1
    executor.look(handle)
    assert executor.ending(handle).signal == 9


def test_available_memory_is_below_the_limits_of_all_groups_above(tmp_path: Path) -> None:
    membership, groups = tmp_path / "cgroup", tmp_path / "groups"
    own = groups / "a" / "b"
    own.mkdir(parents=True)
    membership.write_text("0::/a/b\n")
    for group, limit, used, idle in ((own, "max", 5, 0), (groups / "a", "9000", 4000, 500)):
        (group / "memory.max").write_text(f"{limit}\n")
        (group / "memory.current").write_text(f"{used}\n")
        (group / "memory.stat").write_text(f"anon 3\ninactive_file {idle}\n")
    assert machine_memory.available_bytes(groups, membership) == 5500
    (groups / "a" / "memory.max").write_text("max\n")
    assert machine_memory.available_bytes(groups, membership) > 2**20
    assert machine_memory.available_bytes(groups, tmp_path / "missing") > 2**20
    assert machine_memory.resident_bytes(os.getpid()) > 2**20
    assert machine_memory.resident_bytes(2**22 + 1) == 0
