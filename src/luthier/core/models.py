"""The nouns that rows and answers are made of: frozen values, aware UTC datetimes, None for "not known"."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from luthier.core.hyperparameters import Hyperparameters
from luthier.core.quotas import Quota
from luthier.core.roles import Role
from luthier.core.states import AttemptEnd, DeploymentState, EventLevel, EventType, FilePurpose, FileStatus, JobStatus


@dataclass(frozen=True, slots=True)
class Resource:
    """A tenant: what the path of the control plane calls an Azure OpenAI account."""

    id: str
    subscription: str
    resource_group: str
    account: str


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling: the resource that the presented key or token opens, and what it may do there."""

    resource: Resource
    key_name: str
    roles: frozenset[Role]


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it can be shown: never its text."""

    name: str
    role: Role
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Usage:
    """How much of a quota a resource uses; `current` is None where each job is limited by itself."""

    quota: Quota
    current: int | None
    limit: int


@dataclass(frozen=True, slots=True)
class File:
    id: str
    resource_id: str
    filename: str
    purpose: FilePurpose
    bytes: int
    sha256: str
    status: FileStatus
    status_details: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class JobError:
    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One user's request for a fine-tuned model.

    `base_model` is the catalog's name of the weights; `parent_model` the fine-tuned model or checkpoint that the job
    goes on from; `hyperparameters` hold what was asked until validation, and numbers only from then on; `extras` are
    fields that the caller sent to see again (metadata, trainingType).
    """

    id: str
    resource_id: str
    status: JobStatus
    base_model: str
    requested_model: str
    parent_model: str | None
    training_file: str
    validation_file: str | None
    hyperparameters: Hyperparameters
    method_sent: bool
    seed: int
    suffix: str | None
    extras: Mapping[str, object]
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    estimated_finish: datetime | None = None
    fine_tuned_model: str | None = None
    result_file: str | None = None
    trained_tokens: int | None = None
    error: JobError | None = None
    handle: str | None = None
    has_run: bool = False
    """Whether a run directory may be there, with or without a process at it."""
    absorbed_bytes: int = 0

    @property
    def model(self) -> str:
        """The model that the job tunes, as the wire shows it."""
        return self.parent_model or self.base_model


@dataclass(frozen=True, slots=True)
class Event:
    id: str
    job_id: str
    created_at: datetime
    level: EventLevel
    type: EventType
    message: str
    data: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of a trainer at a job's run; `ended_at`, `end` and `detail` are None while it goes on.

    `last_step` is the last step that the run had told of by then, those of earlier attempts included; `detail` says
    what became of the trainer, in words that follow "The trainer".
    """

    id: str
    job_id: str
    number: int
    started_at: datetime
    last_step: int
    ended_at: datetime | None = None
    end: AttemptEnd | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A deployable model after an epoch, or where a job was paused.

    The last one of a job carries the fine-tuned model's plain name.
    """

    id: str
    resource_id: str
    job_id: str
    model: str
    base_model: str
    step: int
    metrics: Mapping[str, float]
    files: tuple[str, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Deployment:
    name: str
    resource_id: str
    model: str
    model_version: str | None
    sku_name: str
    sku_capacity: int
    state: DeploymentState
    parity: Mapping[str, float] | None
    error: JobError | None
    created_at: datetime
    updated_at: datetime
