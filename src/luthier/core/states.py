"""The closed sets of words that rows, events and settings carry.

The vendors' words for the same states are in api/dialects/status_words.py.
"""

from enum import StrEnum


class FileStatus(StrEnum):
    """Whether a file's bytes can be used; `ERROR` has its reason beside it."""

    PENDING = "pending"
    """It is still being imported."""
    PROCESSED = "processed"
    ERROR = "error"


class FilePurpose(StrEnum):
    """What a file is for; only one of purpose `fine-tune` is trained on."""

    FINE_TUNE = "fine-tune"
    FINE_TUNE_RESULTS = "fine-tune-results"
    USER_DATA = "user_data"
    """OpenAI's word for a file of any kind: kept and given back, never trained on. So are those that follow."""
    ASSISTANTS = "assistants"
    BATCH = "batch"
    BATCH_OUTPUT = "batch_output"
    """What a batch has written: its answers, or its errors."""
    EVALS = "evals"
    VISION = "vision"


class BatchStatus(StrEnum):
    """States of a batch; both vendors have the same."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    """Its input file has faults; no line was answered."""
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


TERMINAL_BATCH_STATUSES = frozenset(
    {BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED}
)


class ResultsAs(StrEnum):
    """How results.csv goes out at /v1: `auto` is base64 to OpenAI's SDKs, and CSV to everyone else."""

    AUTO = "auto"
    CSV = "csv"
    BASE64 = "base64"


class UploadStatus(StrEnum):
    """States of an upload in parts; both vendors have the same."""

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
    """It was gone for an unknown reason: it ended while the service was down."""


class EventLevel(StrEnum):
    """How much a line of a job's history matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class EventType(StrEnum):
    """Whether a line of a job's history is a sentence or a step's figures."""

    MESSAGE = "message"
    METRICS = "metrics"


class EventCode(StrEnum):
    """What an event of type message says; `service/jobs/job_events.py` has the words, `data` the values."""

    WEIGHTS = "weights"
    INTEGRATIONS_STORED = "integrations_stored"
    TRACKING_STARTED = "tracking_started"
    TRACKING_FAILING = "tracking_failing"
    TRACKING_CAUGHT_UP = "tracking_caught_up"
    NOTE = "note"
    FILE_WARNING = "file_warning"
    MORE_FILE_WARNINGS = "more_file_warnings"
    ESTIMATED = "estimated"
    ENQUEUED = "enqueued"
    NO_NODE = "no_node"
    STARTED = "started"
    TRAINER_MESSAGE = "trainer_message"
    TRAINING = "training"
    ADVICE = "advice"
    CHECKPOINT = "checkpoint"
    RESTARTED = "restarted"
    PAUSING = "pausing"
    PAUSED = "paused"
    RESUMED = "resumed"
    COMPUTED = "computed"
    SUCCEEDED = "succeeded"
    EXAMPLE_LOSSES_FILE = "example_losses_file"
    RESULTS_FILE = "results_file"
    BILLED_TOKENS = "billed_tokens"
    PRICE = "price"
    FAILED = "failed"
    CANCELLED = "cancelled"
    IMPORTED = "imported"


class AdviceCode(StrEnum):
    """What a run's losses may say about it."""

    OVERFITTING = "overfitting"
    DIVERGING = "diverging"
    NOTHING_LEARNED = "nothing_learned"


# ARM 2024-10-01, `ProvisioningState`.
class DeploymentState(StrEnum):
    """Whether a deployment answers: those words of ARM's `ProvisioningState` that are used here."""

    CREATING = "Creating"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class RunState(StrEnum):
    """What an executor sees of a run's process; the verdict of a run is its last event, not this."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"


class Ability(StrEnum):
    """What rows and requests a base model can take beyond plain text turns, or in place of them."""

    VISION = "vision"
    TOOLS = "tools"
    EMBEDDINGS = "embeddings"
    """It makes vectors of texts, and nothing else: it is neither trained nor asked for answers."""


class Tuning(StrEnum):
    """What a job on a base model trains: an adapter, or all weights."""

    LORA = "lora"
    FULL = "full"


class LoadState(StrEnum):
    """What an engine has of a model now."""

    READY = "ready"
    LOADING = "loading"
    RESTING = "resting"
    """It is not loaded; the next call loads it."""
    RESTARTING = "restarting"
    """Its engine has ended unasked and is started anew."""
    UNRESPONSIVE = "unresponsive"
    """Its engine runs and does not answer."""


class EngineName(StrEnum):
    """What serves models: one engine for all that it can serve, or the rule that chooses for each."""

    AUTO = "auto"
    NATIVE = "native"
    LLAMACPP = "llamacpp"
    VLLM = "vllm"
    REMOTE = "remote"


class SinkName(StrEnum):
    """An experiment tracker that a job's metrics are sent to."""

    TENSORBOARD = "tensorboard"
    MLFLOW = "mlflow"
    WANDB = "wandb"
    TRACKIO = "trackio"


class SinkState(StrEnum):
    """How the delivery of one job to one sink is going."""

    OPEN = "open"
    FAILING = "failing"
    """It is tried again, and its user has been told."""
    REFUSED = "refused"
    """It cannot succeed as it is: it is tried again at the service's next start, when a setting may have changed."""
    DONE = "done"


class TrackedStatus(StrEnum):
    """How a run ended, in the words of MLflow's `RunStatus`."""

    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"
