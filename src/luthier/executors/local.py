"""Runs the trainer as a process of this machine; the handle `pid:4711@<start time>` survives our own restart."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

from luthier.core.states import RunState
from luthier.run_directory import RunDirectory

STOP_GRACE_S = 20.0

# A training step frees and asks for the same large blocks again and again; by default glibc gives them back to the
# kernel each time, and page faults then take a third of a naive loop's time (docs/benchmarks.md, mallopt(3)).
_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(64 << 20)}


class LocalExecutor:
    """Starts `python -m luthier.trainer RUN_DIR` in a session of its own: it outlives a crash of the service."""

    def __init__(self, python: Path | None = None) -> None:
        self._python = python or Path(sys.executable)

    def start(self, run: Path) -> str:
        directory = RunDirectory(run)
        with directory.log.open("ab") as log:
            process = subprocess.Popen(
                [self._python, "-m", "luthier.trainer", str(run)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=_MALLOC | dict(os.environ),
            )
        return f"pid:{process.pid}@{psutil.Process(process.pid).create_time():.2f}"

    def look(self, handle: str) -> RunState:
        return RunState.GONE if _find(handle) is None else RunState.ALIVE

    def stop(self, handle: str) -> None:
        process = _find(handle)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_GRACE_S)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait()


def _find(handle: str) -> psutil.Process | None:
    pid, _, started = handle.removeprefix("pid:").partition("@")
    try:
        process = psutil.Process(int(pid))
        if f"{process.create_time():.2f}" != started:
            return None
        if process.status() == psutil.STATUS_ZOMBIE:
            _reap(process.pid)
            return None
    except psutil.NoSuchProcess:
        return None
    return process


def _reap(pid: int) -> None:
    # A zombie is our own child, or another parent's to reap.
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
