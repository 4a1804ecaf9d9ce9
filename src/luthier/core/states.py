"""The closed sets of words that rows carry; no status literal stands anywhere else (but for dialects.py)."""

from enum import StrEnum


class FileStatus(StrEnum):
    PENDING = "pending"
    """It is still being imported."""
    PROCESSED = "processed"
    ERROR = "error"


class FilePurpose(StrEnum):
    FINE_TUNE = "fine-tune"
    FINE_TUNE_RESULTS = "fine-tune-results"
    USER_DATA = "user_data"
    """OpenAI's word for a file of any kind: kept and given back, never trained on."""


class UploadStatus(StrEnum):
    """States of an upload in parts (A1021 and OpenAI agree)."""

    PENDING = "pending"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Method(StrEnum):
    """How a job learns from its rows: to write their answers, or to prefer one of two."""

    SUPERVISED = "supervised"
    DPO = "dpo"


class JobStatus(StrEnum):
    """States of a job; `docs/job-states.md` says who sets each."""

    VALIDATING_FILES = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL_JOB_STATUSES = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})


class AttemptEnd(StrEnum):
    """Why an attempt at a run is over."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PAUSED = "paused"
    SERVICE_STOPPED = "service_stopped"
    STOPPED = "stopped"
    """It left when a signal asked it to; the signal was not ours."""
    KILLED = "killed"
    OUT_OF_MEMORY = "out_of_memory"
    DISK_FULL = "disk_full"
    CRASHED = "crashed"
    VANISHED = "vanished"
    """It was gone, and nobody saw how: it ended while the service was away."""


class EventLevel(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class EventType(StrEnum):
    MESSAGE = "message"
    METRICS = "metrics"


class AdviceCode(StrEnum):
    """What a run's losses may say about it."""

    OVERFITTING = "overfitting"
    DIVERGING = "diverging"
    NOTHING_LEARNED = "nothing_learned"


class DeploymentState(StrEnum):
    """ARM's provisioningState words that we use (ARM 2024-10-01, `ProvisioningState`)."""

    CREATING = "Creating"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class RunState(StrEnum):
    """What an executor sees of a run's process; the verdict of a run is its last event, not this."""

    ALIVE = "alive"
    GONE = "gone"
