"""The run directory: the whole contract between the service and the trainer. `docs/run-directory.md` describes it."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

RESULT_COLUMNS = (
    "step",
    "train_loss",
    "train_mean_token_accuracy",
    "valid_loss",
    "validation_mean_token_accuracy",
    "full_valid_loss",
    "full_valid_mean_token_accuracy",
)
"""The guide's seven columns, in its order (fine-tuning-python.md, "Analyze your customized model")."""

DEVICE_VARIABLE = "LUTHIER_TRAIN_DEVICE"
"""The environment variable by which an executor names the trainer's device: auto, cpu or cuda. No part of the spec:
it belongs to the machine, and a run may go on elsewhere."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LoraRecipe(_Value):
    """Shape of the adapter. `targets` are names of linear modules, as PEFT takes them."""

    rank: int = Field(ge=1)
    alpha: float = Field(gt=0)
    dropout: float = Field(ge=0, lt=1, default=0.0)
    targets: tuple[str, ...]


class TrainSpec(_Value):
    """All that the trainer is told; every "auto" is already a number. `learning_rate` is the peak rate itself."""

    version: Literal[1] = 1
    job_id: str
    base_model: str
    base_folder: Path
    continued: bool = False
    """Whether the folder `parent/` of the run directory holds the adapter to go on from."""
    context_tokens: int = Field(ge=1)
    abilities: tuple[str, ...] = ()
    """The base model's catalog.Ability words: which rows it can take beyond plain text turns."""
    seed: int = Field(ge=0)
    n_epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    lora: LoraRecipe
    has_validation: bool = False
    keep_checkpoints: int = Field(ge=1, default=3)
    threads: int | None = None
    """CPU threads to compute with; None for one a core."""
    parent_model: str | None = None
    """The name of the model whose adapter lies in `parent/`, for the manifest."""
    base_licence: str | None = None
    """The base model's licence and, where its weights come from there, its hub repository: for the model card."""
    base_repository: str | None = None


class Message(_Value):
    kind: Literal["message"] = "message"
    at: float
    """Unix time in seconds, as in every event."""
    level: Literal["info", "warning", "error"] = "info"
    message: str


class Started(_Value):
    """The data is read and counted; steps begin. `n_tokens` counts one epoch, `supervised_tokens` the learned ones."""

    kind: Literal["started"] = "started"
    at: float
    n_steps: int
    n_examples: int
    n_tokens: int
    supervised_tokens: int


class Metrics(_Value):
    """One step; values that were not computed are None. Losses are nats per supervised token, accuracies 0 to 1."""

    kind: Literal["metrics"] = "metrics"
    at: float
    step: int
    n_steps: int
    train_loss: float
    train_mean_token_accuracy: float
    valid_loss: float | None = None
    valid_mean_token_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_mean_token_accuracy: float | None = None
    tokens: int | None = None
    """Real tokens of the step's examples; `supervised_tokens` of them are learned. No padding, and a beginning that
    examples share counts in each of them, however it was computed."""
    supervised_tokens: int | None = None
    seconds: float | None = None
    """What forward, backward and optimizer took: without validation, checkpoint and saving."""

    def figures(self) -> dict[str, float]:
        """The losses and accuracies that were computed: what users are shown, and what a checkpoint carries."""
        apart = {"kind", "at", "step", "n_steps", "tokens", "supervised_tokens", "seconds"}
        return self.model_dump(exclude=apart, exclude_none=True)


class CheckpointSaved(_Value):
    """A complete checkpoint lies in `checkpoints/{folder}`; `dropped` are the folders that made way for it."""

    kind: Literal["checkpoint"] = "checkpoint"
    at: float
    step: int
    epoch: int
    folder: str
    metrics: dict[str, float]
    dropped: tuple[str, ...] = ()


class Succeeded(_Value):
    """The verdict: the last checkpoint is the fine-tuned model. `trained_tokens` sums all epochs."""

    kind: Literal["succeeded"] = "succeeded"
    at: float
    trained_tokens: int
    seconds: float
    peak_memory_bytes: int


class Failed(_Value):
    """The verdict: no model. `message` is for the user and holds no text of the user's rows."""

    kind: Literal["failed"] = "failed"
    at: float
    code: str
    message: str
    param: str | None = None


RunEvent = Annotated[Message | Started | Metrics | CheckpointSaved | Succeeded | Failed, Field(discriminator="kind")]
_EVENTS: TypeAdapter[RunEvent] = TypeAdapter(RunEvent)


class RunDirectory:
    """Paths of one run, and its event log: appended by the trainer alone, read by the service from an offset."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spec = path / "spec.json"
        self.training = path / "train.jsonl"
        self.validation = path / "valid.jsonl"
        self.parent = path / "parent"
        self.events = path / "events.jsonl"
        self.results = path / "results.csv"
        self.checkpoints = path / "checkpoints"
        self.resume = path / "resume"
        self.log = path / "trainer.log"
        self.lock = path / "lock"

    def write_spec(self, spec: TrainSpec) -> None:
        """Writes the spec last and whole: a directory with a spec is ready to run."""
        write_durably(self.spec, spec.model_dump_json(indent=2).encode())

    def read_spec(self) -> TrainSpec:
        return TrainSpec.model_validate_json(self.spec.read_bytes())

    def is_held(self) -> bool:
        """Whether a trainer is at this run: it holds the lock for as long as it lives."""
        if not self.lock.exists():
            return False
        with self.lock.open("a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def append(self, event: RunEvent) -> None:
        """Appends one line with one write and waits until it is on disk."""
        line = event.model_dump_json(exclude_none=True).encode() + b"\n"
        with self.events.open("ab", buffering=0) as stream:
            stream.write(line)
            os.fsync(stream.fileno())

    def tail(self, offset: int = 0) -> Iterator[tuple[RunEvent, int]]:
        """Yields each complete event after `offset` bytes with the offset behind it; a torn last line waits."""
        if not self.events.exists():
            return
        with self.events.open("rb") as stream:
            stream.seek(offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                yield _EVENTS.validate_json(line), offset

    def mend(self) -> None:
        """Cuts a torn last line off the event log: what a crash in the middle of a write leaves."""
        if not self.events.exists():
            return
        with self.events.open("r+b") as stream:
            data = stream.read()
            stream.truncate(data.rfind(b"\n") + 1)


def write_durably(path: Path, data: bytes) -> None:
    """Replaces a file so that a crash leaves the old bytes or the new ones, on disk, never half."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Makes renames and new names inside a folder durable (fsync(2): a directory is synced by itself)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
