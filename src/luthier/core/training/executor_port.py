"""The port of executors: what starts a run's trainer on this machine or on a cluster, finds it again, and stops it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from luthier.core.states import RunState


@dataclass(frozen=True, slots=True)
class RunNeeds:
    """What a run needs of the node that it runs on. `memory_bytes` 0: not known; `labels` are the node's."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory_bytes: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)


ONE_CPU = RunNeeds()
NONE_RUNNING: Mapping[str, RunNeeds] = {}


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """What a node has left for further runs. `runs` is how many more may start there; None if nothing but the rest
    limits them. `memory_bytes` None: not known, and not counted. `busy_runs` run there now.

    `holds` is what the whole node has, None if that is not known; its labels are those of the node. With
    `takes_any_alone` a run that is alone there starts whatever memory it is expected to take, for that is a guess.
    """

    name: str
    cpus: float
    gpus: float = 0.0
    memory_bytes: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    runs: int | None = None
    busy_runs: int = 0
    holds: RunNeeds | None = None
    takes_any_alone: bool = False


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run's process ended, as far as it is known: no field is set if it was not a child of this process.

    `out_of_memory` is set only on evidence of the kernel or of the process, never on a guess.
    """

    exit_status: int | None = None
    signal: int | None = None
    out_of_memory: bool = False


class Executor(Protocol):
    """Starts the trainer on a run directory and finds it again by a handle that survives a restart of the service.

    A job has one process at a time: each start is an attempt with a number of its own, from 1. Methods that talk to a
    cluster raise Unavailable if it does not answer: nothing is known then, and the next pass asks again.
    """

    @property
    def outlives_service(self) -> bool:
        """Whether runs continue while the service is stopped or restarted; else it stops them with itself."""
        ...

    def room(self, running: Mapping[str, RunNeeds] = NONE_RUNNING) -> Sequence[NodeRoom]:
        """What is left for further runs now, a node each; nothing is queued inside an executor.

        `running` are the handles of all open runs with what they need, those of earlier services included: for an
        executor that counts runs itself.
        """
        ...

    def start(self, run: Path, attempt: int = 1, needs: RunNeeds = ONE_CPU) -> str:
        """Starts a trainer process on a complete run directory and returns its handle; does not wait for it.

        Idempotent for an attempt where the executor can tell: a second call gives the same handle.
        """
        ...

    def find(self, run: Path, attempt: int = 1) -> str | None:
        """The handle of the trainer at the run, for a service that crashed before it stored it; None without one."""
        ...

    def sync(self, run: Path, handle: str) -> None:
        """Brings the run directory on this machine up to what the trainer has written, and takes a pause request to it.

        Does nothing where the trainer works in that very directory. After `look` said GONE, all that the run has
        written and that is not lost is there.
        """
        ...

    def look(self, handle: str) -> RunState:
        """Whether the process lives: GONE also for one that this executor cannot know; UNKNOWN while that cannot be
        told, such as from the other side of a cut link, which never means GONE.
        """
        ...

    def ending(self, handle: str) -> Ending:
        """How a process ended for which `look` returned GONE."""
        ...

    def ask_to_stop(self, handle: str) -> None:
        """Asks the run to exit after its step; returns at once, `stop` waits. An exited run is no error."""
        ...

    def stop(self, handle: str) -> None:
        """Asks the run to exit after its step, and kills it if that takes too long; returns when it has exited."""
        ...

    def kill(self, handle: str) -> None:
        """Kills the run's process at once; returns when it has exited. An exited run is no error."""
        ...

    def discard(self, run: Path) -> None:
        """Deletes what the executor keeps of an ended job's run elsewhere than in its directory. Idempotent."""
        ...
