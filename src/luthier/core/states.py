"""The closed sets of words that rows carry; no status literal stands anywhere else (but for dialects.py)."""

from enum import StrEnum


class FileStatus(StrEnum):
    PROCESSED = "processed"
    ERROR = "error"


class FilePurpose(StrEnum):
    FINE_TUNE = "fine-tune"
    FINE_TUNE_RESULTS = "fine-tune-results"


class JobStatus(StrEnum):
    """States of a job; `docs/job-states.md` says who sets each."""

    VALIDATING_FILES = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL_JOB_STATUSES = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED})


class EventLevel(StrEnum):
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class EventType(StrEnum):
    MESSAGE = "message"
    METRICS = "metrics"


class DeploymentState(StrEnum):
    """ARM's provisioningState words that we use (ARM 2024-10-01, `ProvisioningState`)."""

    CREATING = "Creating"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class RunState(StrEnum):
    """What an executor sees of a run's process; the verdict of a run is its last event, not this."""

    ALIVE = "alive"
    GONE = "gone"
