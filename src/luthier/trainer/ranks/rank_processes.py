"""The processes of a run's ranks on this machine: rank 0 starts the others as its children, and all end together.

Imports no torch: the children load it while their parent does. docs/ranks.md has the variables of several nodes.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from luthier.process import child_environment
from luthier.run_directory.run_directory import RunDirectory

PARENT_VARIABLE = "LUTHIER_RANK_PARENT"
"""The process id of rank 0, in the environment of ranks that it started: they end when it does."""

EXIT_FAILED = 70
"""How a rank other than 0 exits after an unexpected error, which stands in trainer.log."""
EXIT_NO_MEMORY = 71
"""The same where memory ran out."""

LOOPBACK = "127.0.0.1"
_LOOK_S = 0.1
_LOSS_WAIT_S = 2.0
_PR_SET_PDEATHSIG = 1


class RankLost(RuntimeError):
    """Another rank of the run is gone or does not answer: this attempt ends without a verdict, the next one resumes."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which of a run's `size` ranks this process is, and which of the `local_size` on its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1


def place_given(environment: Mapping[str, str]) -> Place | None:
    """The place that RANK, WORLD_SIZE and, with several ranks on a machine, LOCAL_RANK and LOCAL_WORLD_SIZE give; None
    without the first two.

    Raises ValueError for values that are not numbers, or do not fit one another.
    """
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return None
    names = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
    place = Place(*(int(environment.get(name, default)) for name, default in names.items()))
    if not (0 <= place.rank < place.size and 0 <= place.local_rank < place.local_size <= place.size):
        raise ValueError("RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE do not fit one another")
    if place.size > 1 and not {"MASTER_ADDR", "MASTER_PORT"} <= environment.keys():
        raise ValueError("RANK and WORLD_SIZE need MASTER_ADDR and MASTER_PORT: where rank 0 listens")
    return place


def require_size(place: Place, run: RunDirectory) -> None:
    """Raises ValueError if the run has another number of ranks; a spec that cannot be read is for the attempt."""
    try:
        ranks = run.read_spec().ranks
    except (OSError, ValidationError):
        return
    if ranks != place.size:
        raise ValueError(f"WORLD_SIZE is {place.size}, and the run has {ranks} ranks")


def end_with_parent(environment: Mapping[str, str]) -> None:
    """Has the kernel kill this process when the one that PARENT_VARIABLE names ends; without it does nothing."""
    parent = environment.get(PARENT_VARIABLE)
    if parent is None:
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(parent):  # it has ended before that call
        os._exit(EXIT_FAILED)


class RankProcesses:
    """Ranks 1 to n-1 of a run as children of this process, in its session, until `close`.

    Rank 0 and they meet at a socket on loopback that `listener` is: it listens before the first child starts, so its
    port cannot be taken by another program. If a child ends by a signal, this process ends by the same one at once: an
    executor then judges a run of several processes as it would one.
    """

    def __init__(self, run: Path, size: int) -> None:
        """Starts the children. Their output goes where this process's goes. Raises OSError."""
        self.listener = socket.create_server((LOOPBACK, 0))
        address = {"MASTER_ADDR": LOOPBACK, "MASTER_PORT": str(self.listener.getsockname()[1])}
        os.environ["GLOO_SOCKET_IFNAME"] = "lo" if sys.platform == "linux" else "lo0"
        own = {PARENT_VARIABLE: str(os.getpid()), "GLOO_SOCKET_IFNAME": os.environ["GLOO_SOCKET_IFNAME"]}
        self._closing = False
        self._failure: int | None = None
        self._looking = threading.Lock()
        self._children = [
            subprocess.Popen(
                [sys.executable, "-m", "luthier.trainer", str(run)],
                stdin=subprocess.DEVNULL,
                env=child_environment.to_compute(os.environ) | address | own | _variables(rank, size),
            )
            for rank in range(1, size)
        ]
        threading.Thread(target=self._watch, name="rank-processes", daemon=True).start()

    def loss(self) -> int | None:
        """The exit status of a child that has failed, waiting a moment for it; None if all live or left in order.

        Ends this process if a child was ended by a signal.
        """
        until = time.monotonic() + _LOSS_WAIT_S
        while time.monotonic() < until:
            if (status := self._look()) is not None:
                return status
            time.sleep(_LOOK_S)
        return None

    def close(self) -> None:
        """Ends the children that have not ended by themselves, and waits for all."""
        self._closing = True
        for child in self._children:
            child.kill()
            child.wait()

    def _watch(self) -> None:
        """The thread: once a child has failed the others are killed, so that no rank waits for it."""
        while not self._closing:
            if self._look() is not None:
                for child in self._children:
                    child.kill()
                return
            time.sleep(_LOOK_S)

    def _look(self) -> int | None:
        """The status, not 0, of the child that failed first; ends this process as a signal has ended a child."""
        with self._looking:  # two threads look, and one kills the others after the first failure
            if self._failure is None:
                statuses = [status for child in self._children if (status := child.poll())]
                # A rank that is killed makes others exit, which have lost it: the signal is the cause.
                if statuses and min(statuses) < 0 and not self._closing:
                    _end_by(-min(statuses))
                self._failure = statuses[0] if statuses else None
            return self._failure


def _variables(rank: int, size: int) -> dict[str, str]:
    """What tells a rank on this machine its place."""
    place = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size}
    return {name: str(value) for name, value in place.items()}


def _end_by(number: int) -> None:
    """Ends this process, and with it its children, by a signal that cannot be handled here any more."""
    sys.stderr.write(f"a rank of this run was ended by signal {number}\n")
    sys.stderr.flush()
    os.kill(os.getpid(), number if number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT) else signal.SIGKILL)
    os._exit(EXIT_FAILED)
