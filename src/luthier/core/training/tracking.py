"""What experiment trackers get of a job, and where an operator wants it: values between the service and its sinks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from luthier.core.states import SinkName, TrackedStatus

PROJECT = "luthier"
"""The experiment or project of jobs that name none."""
VENDOR_TAG = "openai/finetune"


@dataclass(frozen=True, slots=True)
class TrackedPoint:
    """The figures of one event: of a step, or the epoch that ended there. `seq` is the event's number."""

    seq: int
    step: int
    at: datetime
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TrackedEnd:
    """How a job ended, for good; `params` are figures that are known only then."""

    status: TrackedStatus
    at: datetime
    params: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A job as trackers show it. `params` are settings and ids: no text of a user.

    `project`, `name`, `entity` and `tags` are the ones that the job's caller named for W&B; sinks that nobody named
    take none of them. `run_id` is what the sink returned for this job before, None if it never did.
    """

    job_id: str
    base_model: str
    created_at: datetime
    started_at: datetime
    params: Mapping[str, str]
    run_id: str | None = None
    project: str | None = None
    name: str | None = None
    entity: str | None = None
    tags: tuple[str, ...] = ()

    @property
    def all_tags(self) -> tuple[str, ...]:
        """The caller's tags and the three that OpenAI adds to every run (wire-contract.md section 21)."""
        vendor = (VENDOR_TAG, f"openai/{self.base_model}", f"openai/{self.job_id}")
        return tuple(dict.fromkeys(tag[:64] for tag in (*self.tags, *vendor)))


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a sink has: its id of the run, where a person finds it, and the number of the last event whose figures are
    surely stored there; 0 if none is.
    """

    run_id: str
    place: str
    confirmed: int


@dataclass(frozen=True, slots=True)
class MlflowTarget:
    """An MLflow tracking server. With a `user` the token is a password, else a bearer token."""

    uri: str
    token: str = field(default="", repr=False)
    user: str = ""


@dataclass(frozen=True, slots=True)
class WandbTarget:
    """W&B by its library: runs in a folder, or also sent to the server at `url` (None: W&B's own) with a key."""

    folder: Path
    is_online: bool = False
    key: str = field(default="", repr=False)
    url: str | None = None
    all_jobs: bool = False


@dataclass(frozen=True, slots=True)
class TrackingTargets:
    """Where metrics of jobs go; None is nowhere. `python` is an interpreter that has the libraries of W&B and trackio,
    `timeout_s` how long one call to a sink may take.
    """

    tensorboard: Path | None = None
    mlflow: MlflowTarget | None = None
    wandb: WandbTarget | None = None
    trackio: Path | None = None
    project: str = PROJECT
    python: str = ""
    timeout_s: float = 30.0

    @property
    def names(self) -> frozenset[SinkName]:
        """The sinks that are configured."""
        targets = {
            SinkName.TENSORBOARD: self.tensorboard,
            SinkName.MLFLOW: self.mlflow,
            SinkName.WANDB: self.wandb,
            SinkName.TRACKIO: self.trackio,
        }
        return frozenset(name for name, target in targets.items() if target is not None)

    def sinks_of(self, extras: Mapping[str, object]) -> list[SinkName]:
        """The sinks of a job with these extras: every one that is configured; W&B only if the job names a project of
        it, or the operator wants all jobs there.
        """
        wanted = set(self.names)
        if self.wandb is not None and not self.wandb.all_jobs and wandb_fields(extras) is None:
            wanted.remove(SinkName.WANDB)
        return sorted(wanted)


NO_TARGETS = TrackingTargets()


def wandb_fields(extras: Mapping[str, object]) -> Mapping[str, Any] | None:
    """The fields of a job's first integration with W&B, as its caller sent them; None without one."""
    sent = extras.get("integrations")
    for item in sent if isinstance(sent, Sequence) else ():
        fields: Mapping[str, Any] = item["wandb"]
        return fields
    return None
