"""Runs the trainer as a process of this machine; the handle `pid:4711@<start time>` survives our own restart."""

import fcntl
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path

import psutil

from luthier.core.ports import Ending
from luthier.core.states import RunState
from luthier.executors import memory
from luthier.run_directory import DEVICE_VARIABLE, RunDirectory

STOP_GRACE_S = 20.0
LOOKS_TO_DIE = 4
"""How many looks a killed process may need to be gone: giving back gigabytes takes the kernel a moment."""

# A training step frees and asks for the same large blocks again and again; by default glibc gives them back to the
# kernel each time (mallopt(3)): a third of a naive loop's time on one machine, nothing on another (benchmarks.md).
_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(64 << 20)}

_TCMALLOC = ("tcmalloc_minimal", "tcmalloc")

_NO_MEMORY = b"std::bad_alloc"
"""What the C++ runtime writes before it aborts a process that may not have more memory (RLIMIT_AS, no overcommit)."""
_LAST_WORDS_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Child:
    """A process that we started, and what tells later how it ended."""

    process: subprocess.Popen[bytes]
    kills_seen: deque[int]
    log: Path
    log_begin: int

    def last_words(self) -> bytes:
        """The end of what this process wrote into the run's log, if that is there still."""
        if not self.log.exists():
            return b""
        with self.log.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(self.log_begin, end - _LAST_WORDS_BYTES))
            return stream.read()


def allocator(find: Callable[[str], str | None] = find_library) -> dict[str, str]:
    """What the trainer's environment says of its allocator, unless our own says otherwise.

    tcmalloc where the system has it (`apt install libtcmalloc-minimal4`), glibc's with its tunables elsewhere.
    """
    found = next((library for name in _TCMALLOC if (library := find(name))), None)
    return {**_MALLOC, **({} if found is None else {"LD_PRELOAD": found})}


class LocalExecutor:
    """Starts `python -m luthier.trainer RUN_DIR` in a session of its own: it outlives a crash of the service."""

    def __init__(
        self,
        python: Path | None = None,
        stop_grace_s: float = STOP_GRACE_S,
        memory_kills: Callable[[], int] = memory.kills,
        device: str | None = None,
    ) -> None:
        self._python = python or Path(sys.executable)
        self._stop_grace_s = stop_grace_s
        self._memory_kills = memory_kills
        self._device = {} if device is None else {DEVICE_VARIABLE: device}
        self._children: dict[str, _Child] = {}
        self._endings: dict[str, Ending] = {}

    def start(self, run: Path) -> str:
        with RunDirectory(run).log.open("ab") as log:
            log_begin = log.tell()
            process = subprocess.Popen(
                [self._python, "-m", "luthier.trainer", str(run)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=allocator() | dict(os.environ) | self._device,
            )
        handle = _handle(psutil.Process(process.pid))
        kills = deque([self._memory_kills()], maxlen=LOOKS_TO_DIE)
        self._children[handle] = _Child(process, kills, RunDirectory(run).log, log_begin)
        return handle

    def find(self, run: Path) -> str | None:
        try:
            with RunDirectory(run).lock.open("r") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return None
        except FileNotFoundError:
            return None
        except BlockingIOError:
            return _holder(run)

    def look(self, handle: str) -> RunState:
        return RunState.GONE if self._find(handle) is None else RunState.ALIVE

    def ending(self, handle: str) -> Ending:
        return self._endings.get(handle, Ending())

    def stop(self, handle: str) -> None:
        self._end(handle, self._stop_grace_s)

    def kill(self, handle: str) -> None:
        self._end(handle, None)

    def _end(self, handle: str, grace_s: float | None) -> None:
        found = self._find(handle)
        if found is None:
            return
        child = self._children.get(handle)
        process = child.process if child else found  # a child's status goes to the one who waits for it
        if grace_s is not None:
            process.terminate()
            try:
                process.wait(grace_s)
            except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
                grace_s = None
        if grace_s is None:
            process.kill()
            process.wait()
        self._find(handle)

    def _find(self, handle: str) -> psutil.Process | None:
        """The living process of a handle. A child of our own that has ended is reaped by the look."""
        child = self._children.get(handle)
        process = _living(handle)
        if child is None:
            return process
        if process is None:
            self._endings[handle] = self._ending(child.process.wait(), child)
            del self._children[handle]
        else:
            child.kills_seen.append(self._memory_kills())
        return process

    def _ending(self, status: int, child: _Child) -> Ending:
        if status >= 0:
            return Ending(exit_status=status)
        match -status:
            case signal.SIGKILL:
                # Just now the kernel has killed for want of memory: its counts of earlier hours prove nothing.
                out_of_memory = self._memory_kills() > child.kills_seen[0]
            case signal.SIGABRT:
                out_of_memory = _NO_MEMORY in child.last_words()
            case _:
                out_of_memory = False
        return Ending(signal=-status, out_of_memory=out_of_memory)


def _handle(process: psutil.Process) -> str:
    return f"pid:{process.pid}@{process.create_time():.2f}"


def _living(handle: str) -> psutil.Process | None:
    pid, _, _ = handle.removeprefix("pid:").partition("@")
    try:
        process = psutil.Process(int(pid))
        same = _handle(process) == handle
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _holder(run: Path) -> str | None:
    """The process whose id stands in the lock, if it is a trainer of this run: a number alone may be out of date."""
    text = RunDirectory(run).lock.read_text()
    try:
        process = psutil.Process(int(text))
        return _handle(process) if str(run) in process.cmdline() else None
    except (ValueError, psutil.Error):
        return None
