"""The kernel's counts of OOM kills."""

from pathlib import Path

import pytest

from luthier.executors import oom_kills


@pytest.fixture
def machine(tmp_path: Path) -> tuple[Path, Path]:
    """Folders in the place of /proc and /sys/fs/cgroup."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    return tmp_path / "proc", tmp_path / "cgroup"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_kills_of_the_machine_and_of_our_group_are_counted_in_both_versions_of_groups(
    machine: tuple[Path, Path],
) -> None:
    proc, cgroups = machine
    write(proc / "vmstat", "pgfault 12\noom_kill 3\n")
    assert oom_kills.count(proc, cgroups) == 3
    write(proc / "self" / "cgroup", "9:name=systemd:/\n4:memory:/box\n0::/unit/luthier\n")
    write(cgroups / "memory" / "box" / "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    write(cgroups / "unit" / "luthier" / "memory.events", "low 0\noom 7\noom_kill 1\noom_group_kill 5\n")
    assert oom_kills.count(proc, cgroups) == 6


def test_machine_without_counters_counts_zero(machine: tuple[Path, Path]) -> None:
    assert oom_kills.count(*machine) == 0


def test_oom_kills_of_this_machine_can_be_read() -> None:
    assert oom_kills.count() >= 0
