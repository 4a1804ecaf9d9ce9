"""Runs the trainer as a process of this machine; the handle `pid:4711@<start time>` survives our own restart."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

from luthier.core.states import RunState
from luthier.run_directory import DEVICE_VARIABLE, RunDirectory

STOP_GRACE_S = 20.0

# A training step frees and asks for the same large blocks again and again; by default glibc gives them back to the
# kernel each time (mallopt(3)): a third of a naive loop's time on one machine, nothing on another (benchmarks.md).
_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(64 << 20)}


def allocator() -> dict[str, str]:
    """What the trainer's environment says to its allocator, unless our own says otherwise."""
    return dict(_MALLOC)


class LocalExecutor:
    """Starts `python -m luthier.trainer RUN_DIR` in a session of its own: it outlives a crash of the service."""

    def __init__(
        self, python: Path | None = None, stop_grace_s: float | None = None, device: str | None = None
    ) -> None:
        self._python = python or Path(sys.executable)
        self._stop_grace_s = stop_grace_s
        self._device = {} if device is None else {DEVICE_VARIABLE: device}
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, run: Path) -> str:
        with RunDirectory(run).log.open("ab") as log:
            process = subprocess.Popen(
                [self._python, "-m", "luthier.trainer", str(run)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=allocator() | dict(os.environ) | self._device,
            )
        handle = f"pid:{process.pid}@{psutil.Process(process.pid).create_time():.2f}"
        self._children[handle] = process
        return handle

    def look(self, handle: str) -> RunState:
        return RunState.GONE if self._find(handle) is None else RunState.ALIVE

    def stop(self, handle: str) -> None:
        process = self._find(handle)
        if process is None:
            return
        process.terminate()
        try:
            process.wait(self._stop_grace_s or STOP_GRACE_S)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait()
        self._find(handle)

    def _find(self, handle: str) -> psutil.Process | None:
        """The living process of a handle. A child of our own that has ended is reaped by the look."""
        process = _living(handle)
        if process is None and (child := self._children.pop(handle, None)) is not None:
            child.wait()
        return process


def _living(handle: str) -> psutil.Process | None:
    pid, _, started = handle.removeprefix("pid:").partition("@")
    try:
        process = psutil.Process(int(pid))
        same = f"{process.create_time():.2f}" == started
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None
