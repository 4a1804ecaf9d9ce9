"""The run directory: the whole contract between the service and the trainer. `docs/run-directory.md` describes it."""

import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from luthier.core.errors import Conflict
from luthier.core.states import AdviceCode, Method
from luthier.durable import append_line, sync_folder, write_durably

EXIT_USAGE = 64
EXIT_DAMAGED = 65
"""The event log holds a line that is no event."""
EXIT_DISK_FULL = 74
"""The disk is so full that not even the verdict could be written."""
EXIT_LOCKED = 75
"""Another trainer has the run, or the run directory was taken away."""

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

REWARD_COLUMNS = tuple(
    f"{part}_reward_{figure}"
    for part in ("train", "valid", "full_valid")
    for figure in ("accuracy", "margin", "chosen", "rejected")
)
"""Columns of a run that learns preferences, behind the seven."""

DEVICE_VARIABLE = "LUTHIER_TRAIN_DEVICE"
"""The environment variable by which an executor names the trainer's device: auto, cpu or cuda. No part of the spec:
it belongs to the machine, and a run may go on elsewhere."""


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Quantization = Literal["8bit", "4bit"]


class LoraRecipe(_Value):
    """Shape of the adapter. `targets` are names of linear modules, as PEFT takes them.

    With `quantization` the base's linear weights are held in so few bits; it is prepared for that when it is pulled.
    """

    rank: int = Field(ge=1)
    alpha: float = Field(gt=0)
    dropout: float = Field(ge=0, lt=1, default=0.0)
    targets: tuple[str, ...]
    quantization: Quantization | None = None


class TrainSpec(_Value):
    """All that the trainer is told; every "auto" is already a number. `learning_rate` is the peak rate itself."""

    version: Literal[1] = 1
    job_id: str
    base_model: str
    base_folder: Path
    continued: bool = False
    """Whether the folder `parent/` of the run directory holds the adapter or the weights to go on from."""
    context_tokens: int = Field(ge=1)
    abilities: tuple[str, ...] = ()
    """The base model's catalog.Ability words: which rows it can take beyond plain text turns."""
    seed: int = Field(ge=0)
    n_epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    lora: LoraRecipe | None
    """The adapter's shape; None where all weights of the base are tuned."""
    method: Method = Method.SUPERVISED
    beta: float | None = Field(gt=0, default=None)
    """Of method dpo alone: what a difference in log-probability counts for."""
    has_validation: bool = False
    keep_checkpoints: int = Field(ge=1, default=3)
    threads: int | None = None
    """CPU threads to compute with; None for one a core."""
    parent_model: str | None = None
    """The name of the model whose adapter lies in `parent/`, for the manifest."""
    base_licence: str | None = None
    """The base model's licence and, where its weights come from there, its hub repository: for the model card."""
    base_repository: str | None = None
    early_stop_patience: int | None = Field(ge=1, default=None)
    """End after so many epochs without a better validation loss, the best checkpoint being the model; None: never."""
    save_interval_s: float = Field(gt=0, default=60.0)
    """Seconds between two resume points, where an epoch is longer; changes nothing that is computed."""

    @property
    def dropout(self) -> float:
        return 0.0 if self.lora is None else self.lora.dropout


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


class Rewards(_Value):
    """Means over preference pairs: beta times how much likelier the run has made an output, in nats.

    `accuracy` is the share of pairs whose preferred output has the greater reward; `margin` is by how much.
    """

    accuracy: float
    margin: float
    chosen: float
    rejected: float


class Metrics(_Value):
    """One step; values that were not computed are None. Losses are nats per supervised token, accuracies 0 to 1.

    Where preferences are learned, losses are nats per pair, token accuracies those of the preferred outputs, and there
    are rewards.
    """

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
    train_rewards: Rewards | None = None
    valid_rewards: Rewards | None = None
    full_valid_rewards: Rewards | None = None
    tokens: int | None = None
    """Real tokens of the step's examples; `supervised_tokens` of them are learned. No padding, and a beginning that
    examples share counts in each of them, however it was computed."""
    supervised_tokens: int | None = None
    example_losses: tuple[float, ...] | None = None
    """The mean loss of each example of the step, in the order of `trainer/batches.py`; in no figure, for the end."""
    seconds: float | None = None
    """What forward, backward and optimizer took: without validation, checkpoint and saving."""

    def figures(self) -> dict[str, float]:
        """The losses, accuracies and rewards that were computed: what users are shown, and what a checkpoint carries.

        A reward's name is that of its column, such as full_valid_reward_accuracy.
        """
        apart = {"kind", "at", "step", "n_steps", "tokens", "supervised_tokens", "example_losses", "seconds"}
        parts = {"train": self.train_rewards, "valid": self.valid_rewards, "full_valid": self.full_valid_rewards}
        shown: dict[str, float] = self.model_dump(
            exclude=apart | {f"{part}_rewards" for part in parts}, exclude_none=True
        )
        for part, rewards in parts.items():
            if rewards is not None:
                shown |= {f"{part}_reward_{name}": value for name, value in rewards.model_dump().items()}
        return shown


class CheckpointSaved(_Value):
    """A complete checkpoint lies in `checkpoints/{folder}`; `dropped` are the folders that made way for it."""

    kind: Literal["checkpoint"] = "checkpoint"
    at: float
    step: int
    epoch: int
    folder: str
    metrics: dict[str, float]
    dropped: tuple[str, ...] = ()


class Paused(_Value):
    """The run was asked to pause and has left after `step`; `folder` is a complete checkpoint of that step."""

    kind: Literal["paused"] = "paused"
    at: float
    step: int
    folder: str
    metrics: dict[str, float]


class Advice(_Value):
    """What the losses say, in words, and whose checkpoint (which stays) to prefer: shown with the name it goes by."""

    kind: Literal["advice"] = "advice"
    at: float
    code: AdviceCode
    step: int
    epoch: int
    message: str
    prefer_step: int | None = None
    prefer_epoch: int | None = None


class Succeeded(_Value):
    """The verdict: the checkpoint of `model_step` (None: the last) is the model. `trained_tokens` sums all epochs."""

    kind: Literal["succeeded"] = "succeeded"
    at: float
    model_step: int | None = None
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


RunEvent = Annotated[
    Message | Started | Metrics | Advice | CheckpointSaved | Paused | Succeeded | Failed, Field(discriminator="kind")
]
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
        self.example_losses = path / "example_losses.csv"
        self.checkpoints = path / "checkpoints"
        self.resume = path / "resume"
        self.tokens = path / "tokens"
        self.log = path / "trainer.log"
        self.lock = path / "lock"
        self.pause = path / "pause"

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
        """Appends one line and waits until it is on disk. Raises NoSpace, and then the log is as before."""
        first = not self.events.exists()
        append_line(self.events, event.model_dump_json(exclude_none=True).encode() + b"\n", durable=True)
        if first:
            sync_folder(self.path)

    def tail(self, offset: int = 0) -> Iterator[tuple[RunEvent, int]]:
        """Yields each complete event after `offset` bytes with the offset behind it; a torn last line waits.

        Raises Conflict at a complete line that is no event: no crash leaves one, so nobody can say what it was.
        """
        if not self.events.exists():
            return
        with self.events.open("rb") as stream:
            stream.seek(offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                try:
                    event = _EVENTS.validate_json(line)
                except ValidationError as error:
                    text = f"The event log of this run is damaged at byte {offset}. Make a new job; check the disk."
                    raise Conflict("event_log_damaged", text) from error
                offset += len(line)
                yield event, offset

    def mend(self) -> None:
        """Takes away what a crash in the middle of a write leaves: temporary files, a torn last line of the events."""
        for leftover in (*self.path.glob(".*.tmp"), *self.resume.glob(".*.tmp")):
            leftover.unlink()
        if not self.events.exists():
            return
        with self.events.open("r+b") as stream:
            data = stream.read()
            stream.truncate(data.rfind(b"\n") + 1)
