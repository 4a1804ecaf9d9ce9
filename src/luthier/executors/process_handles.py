"""Handles of processes of this machine: `pid:4711@<start time>`, which no process that comes later has.

The start time is in seconds since boot: a wall-clock time would change with each step of the clock.
"""

from pathlib import Path

import psutil

from luthier.process import process_identity
from luthier.run_directory.run_directory import RunDirectory


def pid_of(handle: str) -> int:
    """The process id of a handle; 0, which no process has, for one of another kind."""
    number = handle.removeprefix("pid:").partition("@")[0]
    return int(number) if number.isdecimal() else 0


def handle_of(process: psutil.Process) -> str:
    """The handle `pid:4711@<seconds from boot to the process's start>`: a pid that is reused gives another one.

    In a container the namespace of its pids follows: the same pid elsewhere is another process.
    """
    return f"pid:{process.pid}@{process.create_time() - psutil.boot_time():.2f}{process_identity.pid_namespace()}"


def running(handle: str) -> psutil.Process | None:
    """The process of a handle; None if it is gone, a zombie, or the pid belongs to another process now; and for a
    handle of another executor, which was set before.
    """
    try:
        process = psutil.Process(pid_of(handle))
        is_same = handle_of(process) == handle
        return process if is_same and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.NoSuchProcess, ValueError):
        return None


def lock_holder(run: Path) -> str | None:
    """The handle of the process whose pid is in the lock; None if that is no trainer of this run (a stale pid)."""
    text = RunDirectory(run).lock.read_text()
    try:
        process = psutil.Process(int(text))
        return handle_of(process) if str(run) in process.cmdline() else None
    except (ValueError, psutil.Error):
        return None
