"""The nouns that rows and answers are made of: frozen values, aware UTC datetimes, None for "not known"."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from luthier.core.quotas import Quota
from luthier.core.roles import Role
from luthier.core.states import (
    AttemptEnd,
    DeploymentState,
    EventLevel,
    EventType,
    FilePurpose,
    FileStatus,
    JobStatus,
    Method,
    UploadStatus,
)
from luthier.core.training.hyperparameters import Hyperparameters


@dataclass(frozen=True, slots=True)
class Installation:
    """The one that a database belongs to. `blob_prefix` is where its bytes are in the blob store, None before the first
    start. `behind_since` is set once the database was found older than the bytes; `settled_at` and `unsettled_s`
    (seconds) are the state of the clock by which things end (service/steady_clock.py)."""

    id: str
    created_at: datetime
    blob_prefix: str | None
    behind_since: datetime | None
    settled_at: datetime | None
    unsettled_s: float


@dataclass(frozen=True, slots=True)
class Resource:
    """A tenant: what the path of the control plane calls an Azure OpenAI account."""

    id: str
    subscription: str
    resource_group: str
    account: str


@dataclass(frozen=True, slots=True)
class ResourceName:
    """What the control plane's id of a resource names, whether there is such a resource or not."""

    subscription: str
    resource_group: str
    account: str

    def is_of(self, resource: Resource) -> bool:
        """Whether the resource has this name; the control plane compares without regard to case."""
        own = (resource.subscription, resource.resource_group, resource.account)
        return all(
            said.lower() == name.lower()
            for said, name in zip((self.subscription, self.resource_group, self.account), own, strict=True)
        )


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
class QuotaUsage:
    """How much of a quota a resource uses; `current` is None where each job is limited by itself."""

    quota: Quota
    current: int | None
    limit: int


@dataclass(frozen=True, slots=True)
class File:
    """An uploaded object's row; its bytes are a blob. `status_details`: why it is in error; no `expires_at`: never."""

    id: str
    resource_id: str
    filename: str
    purpose: FilePurpose
    bytes: int
    sha256: str
    status: FileStatus
    status_details: str | None
    created_at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FileImport:
    """What is still to be fetched for a pending file. It ends with the import: its URL may hold a credential."""

    file_id: str
    resource_id: str
    content_url: str


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that comes in parts. `part_ids` and `file_id` are known once it is completed.

    `file_expires_after_s` is for the file that it becomes; `expires_at` is when the upload itself ends unfinished.
    """

    id: str
    resource_id: str
    filename: str
    purpose: FilePurpose
    bytes: int
    mime_type: str
    status: UploadStatus
    created_at: datetime
    expires_at: datetime
    file_expires_after_s: int | None = None
    part_ids: tuple[str, ...] | None = None
    file_id: str | None = None


@dataclass(frozen=True, slots=True)
class UploadPart:
    """One piece of a pending upload; its bytes are a blob until the upload is completed or ends."""

    id: str
    upload_id: str
    bytes: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job or a deployment has failed, as its owner reads it; `param` names a field of the request."""

    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """One user's request for a fine-tuned model.

    `base_model` is the catalog's name of the weights; `parent_model` the fine-tuned model or checkpoint that the job
    goes on from; `hyperparameters` hold what was asked until validation, and numbers only from then on; `extras` are
    fields that the caller sent to see again (metadata, trainingType); `handle` is the executor's; the first
    `absorbed_bytes` of the run's event log are in the job's events.
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
    method: Method
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
    is_deleted: bool = False
    """Whether its user has deleted it, and the supervisor has still to clear away its process or run directory."""
    early_stop_patience: int | None = None
    """After how many epochs without a better validation loss the job ends; None: never."""
    peak_memory_bytes: int | None = None
    """What its run is expected to take, by the estimate at validation; None: not known."""

    @property
    def model(self) -> str:
        """The model that the job tunes, as the wire shows it."""
        return self.parent_model or self.base_model


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a job's history, as its owner reads it; the trainer's own lines are RunEvents."""

    id: str
    job_id: str
    created_at: datetime
    level: EventLevel
    type: EventType
    message: str
    data: Mapping[str, Any] | None = None
    """Of a message its EventCode as `code`, and its values; of metrics the figures by name."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of a trainer at a job's run; `ended_at` and `end` are None while it runs. `last_step` is the last step
    that the run had reported by then, those of earlier attempts included, `saved_step` the last one that it can resume
    from. `signal` and `exit_status` are those of its process, if they are known, and `error_code` that of the job, if
    it failed. `detail` is the sentence that older versions stored instead."""

    id: str
    job_id: str
    number: int
    started_at: datetime
    last_step: int
    ended_at: datetime | None = None
    end: AttemptEnd | None = None
    detail: str | None = None
    saved_step: int = 0
    signal: int | None = None
    exit_status: int | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A deployable model after an epoch, or where a job was paused; a job's last has its model's plain name."""

    id: str
    resource_id: str
    job_id: str
    model: str
    base_model: str
    step: int
    metrics: Mapping[str, float]
    files: tuple[str, ...]
    created_at: datetime
    copied_from: str | None = None
    """The id of the other resource's checkpoint that this is a copy of."""


@dataclass(frozen=True, slots=True)
class CheckpointPermission:
    """Leave for the resource of a name to deploy and call a checkpoint, whether there is one of that name or not."""

    id: str
    checkpoint_id: str
    account: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class CheckpointCopy:
    """A checkpoint with files of its own for the resource of a name, whether there is one of that name or not. The
    `resource_id` of `checkpoint` is that of the resource that gave it."""

    checkpoint: Checkpoint
    destination: ResourceName
    region: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """A name under which a model answers. `parity` is the report of its last check, None without one. `model_source` is
    the control plane's id of the resource that the model was copied from, as the caller wrote it; `last_used_at` the
    last call to a minute, or the making where there was none. `extras` are the control plane's to show again: `model`,
    `properties` and `sku` as they were asked for.

    `answering` is the model that answers while `model` is not proven yet, or could not be: the one before, if there was
    one. None once `model` answers itself, and where nothing does."""

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
    tags: Mapping[str, str]
    model_source: str | None
    sku_changed_at: datetime
    last_used_at: datetime
    extras: Mapping[str, Any]
    answering: str | None = None

    @property
    def served_model(self) -> str | None:
        """The model that answers calls now; None if they are refused."""
        return self.model if self.state is DeploymentState.SUCCEEDED else self.answering
