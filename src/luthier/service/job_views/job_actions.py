"""What a caller can do with a job now: by its state, what serves its models, and the caller's roles; why not, in words.

The words agree with the refusals of the use cases, which decide again when they are called.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from luthier.core import roles
from luthier.core.models import Checkpoint, Job, Principal
from luthier.core.roles import ACTIONS, Action
from luthier.core.states import TERMINAL_JOB_STATUSES, JobStatus
from luthier.store.db import Connection
from luthier.store.queries import deployments


@dataclass(frozen=True, slots=True)
class Possibility:
    """Whether something can be done now; `reason` is a sentence if not. `model` is what it would be done with."""

    reason: str | None
    model: str | None = None

    @property
    def allowed(self) -> bool:
        return self.reason is None


def possibilities(tx: Connection, caller: Principal, job: Job, saved: list[Checkpoint]) -> dict[str, Possibility]:
    """What can be done with a job of the caller's resource, by name; `saved` are its checkpoints, oldest first."""
    status = str(job.status).replace("_", " ")
    model = job.fine_tuned_model or (saved[-1].model if saved else None)
    has_ended = job.status in TERMINAL_JOB_STATUSES
    no_model = "It has no checkpoint yet." if not has_ended else "It has no checkpoint."
    served = [one.model for one in saved if deployments.is_served(tx, one.model)] if has_ended else []
    found: Mapping[str, tuple[Action, str | None]] = {
        "pause": (Action.JOBS_WRITE, None if job.status is JobStatus.RUNNING else _only(status, "a running", "paused")),
        "resume": (Action.JOBS_WRITE, None if job.status is JobStatus.PAUSED else _only(status, "a paused", "resumed")),
        "cancel": (Action.JOBS_WRITE, f"The job has already {status}." if has_ended else None),
        "delete": (Action.JOBS_WRITE, _undeletable(status, has_ended=has_ended, served=served)),
        "deploy": (Action.DEPLOYMENTS_WRITE, None if model else no_model),
        "continue": (Action.JOBS_WRITE, None if model else no_model),
    }
    return {
        name: Possibility(_without_role(caller, action) or reason, model if name in ("deploy", "continue") else None)
        for name, (action, reason) in found.items()
    }


def _only(status: str, which: str, done: str) -> str:
    return f"The job is {status}; only {which} job can be {done}."


def _undeletable(status: str, *, has_ended: bool, served: list[str]) -> str | None:
    """Why a job cannot be deleted now; None if it can."""
    if not has_ended:
        return f"The job is {status}; cancel it first."
    return f"A deployment uses {served[0]}; delete that first." if served else None


def _without_role(caller: Principal, action: Action) -> str | None:
    """The sentence for a caller without the right to an action; None for one who has it."""
    if any(action in ACTIONS[role] for role in caller.roles):
        return None
    return f"Your key may not do this; keys with one of these roles may: {', '.join(roles.with_action(action))}."
