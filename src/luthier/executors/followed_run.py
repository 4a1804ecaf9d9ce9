"""What is known of a run on a node, and the times by which it is judged."""

from dataclasses import dataclass

from luthier.core.states import RunState
from luthier.core.training.executor_port import RunNeeds
from luthier.executors.local import STOP_GRACE_S
from luthier.run_directory.shipped_run import Request, RunnerEnd

LEASE_S = 60.0
_BEATS_PER_LEASE = 12


@dataclass(frozen=True, slots=True)
class Terms:
    """Times of remote runs, in seconds. `poll_s` is how often a node is looked at, and looks for requests itself.

    `unseen_s` is how long a scheduler may take until its free resources tell of a new run; `patience_s` how long `stop`
    and `kill` wait before they leave the rest to a later call.
    """

    lease_s: float = LEASE_S
    poll_s: float = 1.0
    stop_grace_s: float = STOP_GRACE_S
    unseen_s: float = 10.0
    patience_s: float = 5.0

    @property
    def beat_s(self) -> float:
        return self.lease_s / _BEATS_PER_LEASE


@dataclass(slots=True)
class FollowedRun:
    """What this process knows of a handle: the lease by its own clock, and what it has asked.

    `alive_at` is when a new beat was last seen, or the first look; `read_at` the last time that the store answered.
    """

    needs: RunNeeds
    alive_at: float
    read_at: float
    sequence: int | None = None
    first_beat_at: float | None = None
    end: RunnerEnd | None = None
    asked: Request = Request.RUN
    state: RunState = RunState.ALIVE
    is_wrong_word_counted: bool = False
    mirror_closed: bool = False
