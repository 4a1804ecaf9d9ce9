"""What a trainer appends to events.jsonl: one value per line, `kind` says which.

The service turns them into a job's events, checkpoints and verdict (service/jobs/progress.py).
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from luthier.core.states import AdviceCode
from luthier.run_directory.train_spec import StrictModel

_COURSE = ("learning_rate", "gradient_norm", "trained_tokens")
"""The fields of Metrics that `course` returns."""


class Message(StrictModel):
    """A sentence for the user, shown among the job's events as it is."""

    kind: Literal["message"] = "message"
    at: float
    """Unix time in seconds, as in every event."""
    level: Literal["info", "warning", "error"] = "info"
    message: str


class Started(StrictModel):
    """The data is loaded; steps begin. `n_steps` are those of the whole run.

    `n_tokens` are those of one epoch, `supervised_tokens` those of them with a loss.
    """

    kind: Literal["started"] = "started"
    at: float
    n_steps: int
    n_examples: int
    n_tokens: int
    supervised_tokens: int


class Rewards(StrictModel):
    """Means over preference pairs: beta times how much likelier the run has made an output, in nats.

    `accuracy` is the share of pairs whose preferred output has the greater reward; `margin` is by how much.
    """

    accuracy: float
    margin: float
    chosen: float
    rejected: float


class Metrics(StrictModel):
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
    trained_tokens: int | None = None
    """The tokens of all steps up to this one."""
    learning_rate: float | None = None
    """Of this step, after warm-up and schedule."""
    gradient_norm: float | None = None
    """The 2-norm of the gradient of the batch's mean loss over all trained parameters, before clipping. It is what
    optimizers report; None also if it is not finite."""
    example_losses: tuple[float, ...] | None = None
    """The mean loss of each example of the step, in the order of `dataset/packing.py`; in no figure, for the end."""
    seconds: float | None = None
    """What forward, backward and optimizer took: without validation, checkpoint and saving."""

    def figures(self) -> dict[str, float]:
        """The losses, accuracies and rewards that were computed: what users are shown, and what a checkpoint carries.

        A reward's name is that of its column, such as full_valid_reward_accuracy.
        """
        apart = {"kind", "at", "step", "n_steps", "example_losses", "seconds", "tokens", "supervised_tokens", *_COURSE}
        parts = {"train": self.train_rewards, "valid": self.valid_rewards, "full_valid": self.full_valid_rewards}
        shown: dict[str, float] = self.model_dump(
            exclude=apart | {f"{part}_rewards" for part in parts}, exclude_none=True
        )
        for part, rewards in parts.items():
            if rewards is not None:
                shown |= {f"{part}_reward_{name}": value for name, value in rewards.model_dump().items()}
        return shown

    def course(self) -> dict[str, float]:
        """How the run proceeds, for charts beside the figures: learning rate, gradient norm, tokens so far.

        What is not known is left out. None of it says how good the model is, so neither results.csv nor a checkpoint
        carries it.
        """
        return self.model_dump(include=set(_COURSE), exclude_none=True)


class CheckpointSaved(StrictModel):
    """A complete checkpoint is in `checkpoints/{folder}`; `dropped` are the folders deleted for it.

    `metrics` are `Metrics.figures` of its step.
    """

    kind: Literal["checkpoint"] = "checkpoint"
    at: float
    step: int
    epoch: int
    folder: str
    metrics: dict[str, float]
    dropped: tuple[str, ...] = ()


class CheckpointHeld(StrictModel):
    """A checkpoint without its probes is in `checkpoints/{folder}`: no model yet, and likely to be dropped."""

    kind: Literal["held"] = "held"
    at: float
    step: int
    epoch: int
    folder: str
    dropped: tuple[str, ...] = ()


class Saved(StrictModel):
    """The resume point of `step` is on disk: a later attempt resumes from there."""

    kind: Literal["saved"] = "saved"
    at: float
    step: int


class Paused(StrictModel):
    """The run paused after `step`; `folder` is a complete checkpoint of that step."""

    kind: Literal["paused"] = "paused"
    at: float
    step: int
    folder: str
    metrics: dict[str, float]


class Advice(StrictModel):
    """A diagnosis of the losses, in words, and the kept checkpoint to prefer, if any.

    `step` and `epoch` are where it was made; both `prefer_...` are None without a better checkpoint.
    """

    kind: Literal["advice"] = "advice"
    at: float
    code: AdviceCode
    step: int
    epoch: int
    message: str
    prefer_step: int | None = None
    prefer_epoch: int | None = None


class Succeeded(StrictModel):
    """The verdict: the checkpoint of `model_step` (None: the last) is the model. `trained_tokens` sums all epochs.

    `seconds` and `peak_memory_bytes` are of the attempt that ended the run.
    """

    kind: Literal["succeeded"] = "succeeded"
    at: float
    model_step: int | None = None
    trained_tokens: int
    seconds: float
    peak_memory_bytes: int


class Failed(StrictModel):
    """The verdict: no model. `message` is for the user and holds no text of the user's rows.

    `code` and `param` are those of a LuthierError: `param` names a field of the job, None for none.
    """

    kind: Literal["failed"] = "failed"
    at: float
    code: str
    message: str
    param: str | None = None


RunEvent = Annotated[
    Message | Started | Metrics | Advice | CheckpointHeld | CheckpointSaved | Saved | Paused | Succeeded | Failed,
    Field(discriminator="kind"),
]
RUN_EVENTS: TypeAdapter[RunEvent] = TypeAdapter(RunEvent)
"""Reads a line of the event log."""
