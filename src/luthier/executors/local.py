"""Runs the trainer as a local process; its handle survives a restart of the service.

A trainer whose pid cannot be seen from here, as one of another container, is known by the run's lock:
`foreign_trainers`.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path

import psutil

from luthier.core.states import RunState
from luthier.core.training.executor_port import NONE_RUNNING, ONE_CPU, Ending, NodeRoom, RunNeeds
from luthier.executors import foreign_trainers, machine_memory, oom_kills, process_handles
from luthier.process import child_environment
from luthier.run_directory.run_directory import DEVICE_VARIABLE, RunDirectory

STOP_GRACE_S = 20.0
EXIT_LOOKS = 4
"""How many calls of `look` a killed process may take to exit: the kernel needs time to free gigabytes."""

# A training step frees and allocates the same large blocks again and again; by default glibc returns them to the
# kernel each time (mallopt(3)): a third of a naive loop's time on one machine, nothing on another (benchmarks.md).
_MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(64 << 20)}

_TCMALLOC = ("tcmalloc_minimal", "tcmalloc")

_BAD_ALLOC = b"std::bad_alloc"
"""What the C++ runtime writes before it aborts a process that gets no more memory (RLIMIT_AS, no overcommit)."""
_LOG_TAIL_BYTES = 64 * 1024
_GPUS = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True, slots=True)
class _Child:
    """A trainer that we started, with the evidence of how it ended.

    `kill_counts` are the machine's OOM kills at the latest looks, oldest first; `log_begin` is the size in bytes that
    the run's log had when the process started.
    """

    process: subprocess.Popen[bytes]
    kill_counts: deque[int]
    log: Path
    log_begin: int
    needs: RunNeeds

    def log_tail(self) -> bytes:
        """The end of what this process wrote to the run's log, at most 64 KiB; empty if the log is gone."""
        if not self.log.exists():
            return b""
        with self.log.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            stream.seek(max(self.log_begin, end - _LOG_TAIL_BYTES))
            return stream.read()


def allocator(find: Callable[[str], str | None] = find_library) -> dict[str, str]:
    """Environment variables for the trainer's allocator; those of the service's own environment go before them.

    tcmalloc if the system has it (`apt install libtcmalloc-minimal4`), else glibc's malloc with its tunables.
    """
    tcmalloc = next((library for name in _TCMALLOC if (library := find(name))), None)
    return {**_MALLOC, **({} if tcmalloc is None else {"LD_PRELOAD": tcmalloc})}


class LocalExecutor:
    """Implements the port Executor: starts `python -m luthier.trainer RUN_DIR` as a process of this machine.

    The process has a session of its own and outlives a crash of the service; `look` and `find` see it afterwards too.
    """

    def __init__(
        self,
        python: Path | None = None,
        stop_grace_s: float = STOP_GRACE_S,
        memory_kills: Callable[[], int] = oom_kills.count,
        device: str | None = None,
        jobs: int = 1,
        available_bytes: Callable[[], int] = machine_memory.available_bytes,
        *,
        ranks: int = 1,
        dies_with_us: bool = False,
    ) -> None:
        """`stop_grace_s` is how long `stop` waits for the end of a step; `memory_kills` counts the machine's OOM kills.

        `python` None is the service's own; `device` None leaves the choice to the trainer's environment. At most `jobs`
        run at once, each of `ranks` processes; `available_bytes` is the machine's memory for further ones. With
        `dies_with_us` the kernel kills the trainer when the thread ends that started it (Linux).
        """
        self._python = python or Path(sys.executable)
        self._stop_grace_s = stop_grace_s
        self._memory_kills = memory_kills
        self._device = {} if device is None else {DEVICE_VARIABLE: device}
        self._before_trainer = _die_with_parent if dies_with_us else None
        self._jobs = jobs
        self._ranks = ranks
        self._available_bytes = available_bytes
        self._wake: Callable[[], object] | None = None
        self._children: dict[str, _Child] = {}
        self._endings: dict[str, Ending] = {}

    outlives_service = False
    """A service that stops asks its trainers to save and exit, and the next start resumes them."""

    def wake_at_exits(self, wake: Callable[[], object]) -> None:
        """Has `wake` called, in a thread, each time a trainer of those that are started from now on has exited."""
        self._wake = wake

    def room(self, running: Mapping[str, RunNeeds] = NONE_RUNNING) -> Sequence[NodeRoom]:
        """This machine: what its memory leaves beside the runs that live, those of an earlier service included.

        Of each what it is expected to take and has not taken yet is set aside. A run that is alone is tried whatever
        the estimate says; beside one of unknown memory none starts.
        """
        alive = self._alive(running)
        cores, gpus = (
            max(os.cpu_count() or 1, self._jobs * self._ranks),
            len(list(_GPUS.glob("*"))) if _GPUS.exists() else 0,
        )
        expected = sum(
            max(0, needs.memory_bytes - machine_memory.resident_bytes(process_handles.pid_of(handle)))
            for handle, needs in alive.items()
        )
        is_known = all(needs.memory_bytes for needs in alive.values())
        return [
            NodeRoom(
                "this machine",
                cpus=cores - sum(needs.cpus for needs in alive.values()),
                gpus=gpus - sum(needs.gpus for needs in alive.values()),
                memory_bytes=max(0, self._available_bytes() - expected),
                runs=max(0, self._jobs - len(alive)) if is_known else 0,
                busy_runs=len(alive),
                holds=RunNeeds(cores, gpus),
                takes_any_alone=True,
            )
        ]

    def _alive(self, running: Mapping[str, RunNeeds]) -> dict[str, RunNeeds]:
        """The runs of this machine that live, ours and those of `running`, by handle. It is no look: those count."""
        ours = {handle: child for handle, child in self._children.copy().items() if child.process.poll() is None}
        others = {
            handle: needs
            for handle, needs in running.items()
            if handle not in ours and handle not in self._endings and self._is_other(handle)
        }
        return {handle: child.needs for handle, child in ours.items()} | others

    def _is_other(self, handle: str) -> bool:
        """Whether a trainer that is no child of ours lives."""
        run = foreign_trainers.run_of(handle)
        return process_handles.running(handle) is not None if run is None else foreign_trainers.holds_lock(run)

    def start(self, run: Path, attempt: int = 1, needs: RunNeeds = ONE_CPU) -> str:
        """Starts the trainer on a run directory and returns its handle; what it prints is appended to the run's log.

        Raises OSError if the process cannot be started or the log not be opened.
        """
        with RunDirectory(run).log.open("ab") as log:
            log_begin = log.tell()
            process = subprocess.Popen(
                [self._python, "-m", "luthier.trainer", str(run)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=self._before_trainer,
                env=allocator() | child_environment.to_compute(os.environ) | self._device,
            )
        handle = process_handles.handle_of(psutil.Process(process.pid))
        kills = deque([self._memory_kills()], maxlen=EXIT_LOOKS)
        self._children[handle] = _Child(process, kills, RunDirectory(run).log, log_begin, needs)
        if self._wake is not None:
            threading.Thread(target=_wait_for_exit, args=(process.pid, self._wake), daemon=True).start()
        return handle

    def find(self, run: Path, attempt: int = 1) -> str | None:
        """The handle of the trainer that holds the run's lock, for a service that crashed before it stored the handle.

        None if nobody holds the lock, which is taken for a moment to see that. A holder that is no process of ours is
        found by the lock itself.
        """
        if not foreign_trainers.holds_lock(run):
            return None
        return process_handles.lock_holder(run) or foreign_trainers.handle(run)

    def sync(self, run: Path, handle: str) -> None:
        """Nothing: the trainer works in the run directory itself."""

    def discard(self, run: Path) -> None:
        """Nothing: all of a run is in its directory."""

    def look(self, handle: str) -> RunState:
        """Whether the process is ALIVE or GONE; reaps a child that has exited, and keeps its ending for `ending`."""
        if (run := foreign_trainers.run_of(handle)) is not None:
            return RunState.ALIVE if foreign_trainers.holds_lock(run) else RunState.GONE
        return RunState.GONE if self._find(handle) is None else RunState.ALIVE

    def ending(self, handle: str) -> Ending:
        """How a child of ours ended that `look` or `stop` found gone; an empty Ending for any other process."""
        return self._endings.get(handle, Ending())

    def ask_to_stop(self, handle: str) -> None:
        """Sends SIGTERM: the trainer exits after its step. Returns at once; a process that is gone is no error."""
        if (run := foreign_trainers.run_of(handle)) is not None:
            foreign_trainers.end(run, 0)
        elif (process := self._find(handle)) is not None:
            with suppress(psutil.NoSuchProcess):
                process.terminate()

    def stop(self, handle: str) -> None:
        """Sends SIGTERM, and SIGKILL after `stop_grace_s`; returns when the process is gone."""
        self._end(handle, self._stop_grace_s)

    def kill(self, handle: str) -> None:
        """Sends SIGKILL; returns when the process is gone."""
        self._end(handle, None)

    def _end(self, handle: str, grace_s: float | None) -> None:
        """Ends a process by SIGTERM and, `grace_s` seconds later, SIGKILL; None for SIGKILL at once.

        Records a child's ending. A foreign trainer is ended by the loss of its lock.
        """
        if (run := foreign_trainers.run_of(handle)) is not None:
            foreign_trainers.end(run, self._stop_grace_s)
            return
        running = self._find(handle)
        if running is None:
            return
        child = self._children.get(handle)
        process = child.process if child else running  # only the Popen of a child gets its exit status
        with suppress(psutil.NoSuchProcess):  # no child of ours, and it has exited meanwhile
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
        """The running process of a handle, None if it is gone.

        A child of ours that has exited is reaped, its ending recorded.
        """
        child = self._children.get(handle)
        if child is None:
            return process_handles.running(handle)
        status = child.process.poll()
        if status is None:
            child.kill_counts.append(self._memory_kills())
            try:
                return psutil.Process(child.process.pid)
            except psutil.NoSuchProcess:  # another thread has reaped it since
                return self._find(handle)
        self._endings[handle] = self._ending(status, child)
        self._children.pop(handle, None)
        return None

    def _ending(self, status: int, child: _Child) -> Ending:
        """The ending by Popen's status (below zero, the signal), with the evidence that memory ran out, if any."""
        if status >= 0:
            return Ending(exit_status=status)
        match -status:
            case signal.SIGKILL:
                # Only an OOM kill counted since the last looks is evidence; earlier ones are not.
                out_of_memory = self._memory_kills() > child.kill_counts[0]
            case signal.SIGABRT:
                out_of_memory = _BAD_ALLOC in child.log_tail()
            case _:
                out_of_memory = False
        return Ending(signal=-status, out_of_memory=out_of_memory)


def _die_with_parent() -> None:
    """In the trainer's process before it runs: has Linux kill it when we are killed (prctl(2), PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _wait_for_exit(pid: int, wake: Callable[[], object]) -> None:
    """Calls `wake` when a child has exited; leaves it to be reaped by a look."""
    with suppress(ChildProcessError):
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    wake()
