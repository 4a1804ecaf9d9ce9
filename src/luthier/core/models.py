"""The nouns that rows and answers are made of: frozen values, aware UTC datetimes, None for "not known"."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from luthier.core.hyperparameters import Hyperparameters
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
    id: str
    upload_id: str
    bytes: int
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
    copied_from: str | None = None
    """The id of the other resource's checkpoint that this is a copy of."""


@dataclass(frozen=True, slots=True)
class CheckpointPermission:
    """One other resource's leave to deploy and call a checkpoint."""

    id: str
    checkpoint_id: str
    resource: Resource
    created_at: datetime


@dataclass(frozen=True, slots=True)
class CheckpointCopy:
    """A checkpoint as it lies in another resource, with files of its own."""

    checkpoint: Checkpoint
    source_resource_id: str
    region: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """A name under which a model answers.

    `model_source` is the control plane's id of the resource that the model was copied from, as the caller wrote it;
    `last_used_at` the last call to a minute, or the making where there was none.
    """

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
