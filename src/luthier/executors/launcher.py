"""What a cluster's scheduler does for RemoteRuns: start a runner somewhere, say a word on it, end it."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from luthier.core.training.executor_port import NodeRoom, RunNeeds


class Word(StrEnum):
    """What a scheduler says of a runner. Only EXITED is evidence; the others are opinions."""

    WAITING = "waiting"
    """Accepted and not placed yet."""
    RUNNING = "running"
    EXITED = "exited"
    """Its process has exited: the scheduler has the exit code."""
    LOST = "lost"
    """Ended in the scheduler's opinion, without an exit code: it may still run on a node that cannot be reached."""
    UNKNOWN = "unknown"
    """The scheduler has no such runner, or no more."""


class Launcher(Protocol):
    """Starts runners by id. Methods raise Unavailable if the scheduler does not answer."""

    @property
    def name(self) -> str:
        """What stands before the colon of a handle."""
        ...

    def submit(self, id: str, run_key: str, attempt: int, needs: RunNeeds) -> None:
        """Has `python -m luthier.runner RUN_KEY ATTEMPT` started; an id that was submitted before is no error."""
        ...

    def word(self, id: str) -> Word:
        """What the scheduler says now."""
        ...

    def stop(self, id: str) -> None:
        """Asks for SIGTERM and, after the grace, SIGKILL; returns at once. An unknown or ended id is no error."""
        ...

    def nodes(self) -> Sequence[NodeRoom]:
        """The nodes that live with what the scheduler says is free on each; it may not know the newest runs yet."""
        ...
