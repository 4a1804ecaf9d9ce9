"""The epochs of a run from its step metrics: which is the best, whose checkpoints are kept, when to stop. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.run_directory.run_events import Metrics


@dataclass(frozen=True, slots=True)
class Epoch:
    """A whole epoch, counted from 1, and its last step. Losses are nats per supervised token.

    `train_loss` is the mean over the steps of the epoch, each with the adapter as it was then; `valid_loss` that of the
    whole validation file after the last step.
    """

    number: int
    step: int
    train_loss: float
    valid_loss: float | None

    @property
    def score(self) -> float:
        """What epochs are compared by, the lower the better: held-out rows where there are any."""
        return self.train_loss if self.valid_loss is None else self.valid_loss


def summed(steps: Sequence[Metrics], steps_per_epoch: int) -> list[Epoch]:
    """The whole epochs among the steps of a run, told from its first on."""
    return [
        Epoch(
            number,
            number * steps_per_epoch,
            mean_loss(steps[(number - 1) * steps_per_epoch : number * steps_per_epoch]),
            steps[number * steps_per_epoch - 1].full_valid_loss,
        )
        for number in range(1, len(steps) // steps_per_epoch + 1)
    ]


def mean_loss(steps: Sequence[Metrics]) -> float:
    """The mean training loss over all supervised tokens of these steps."""
    weights = [step.supervised_tokens or 1 for step in steps]
    return sum(step.train_loss * weight for step, weight in zip(steps, weights, strict=True)) / sum(weights)


def best(epochs: Sequence[Epoch]) -> Epoch:
    """The one with the lowest score, the earliest of equals."""
    return min(epochs, key=lambda epoch: epoch.score)


def kept(epochs: Sequence[Epoch], keep: int) -> list[Epoch]:
    """Those whose checkpoints stay: the `keep` newest, as the guide has it, and the best beside them if it is older.

    A function of what was told alone, so a resumed run drops what an undisturbed one does. An epoch that was dropped is
    never the best again.
    """
    return [epoch for epoch in epochs if epoch in epochs[-keep:] or epoch is best(epochs)]


def dropped(epochs: Sequence[Epoch], keep: int) -> list[Epoch]:
    """Those whose checkpoints make way for that of the last epoch."""
    staying = kept(epochs, keep)
    return [epoch for epoch in kept(epochs[:-1], keep) if epoch not in staying]


def stalled(epochs: Sequence[Epoch], patience: int | None) -> bool:
    """Whether so many epochs have gone by since the best one; never without a patience."""
    return bool(epochs) and patience is not None and epochs[-1].number - best(epochs).number >= patience


def stopped_words(epochs: Sequence[Epoch], n_epochs: int) -> str:
    """What is said of a run that ended before its last epoch."""
    champion = best(epochs)
    return (
        f"Stopped early after epoch {len(epochs)} of {n_epochs}: the validation loss was lowest after epoch "
        f"{champion.number} (step {champion.step}), and that checkpoint is the fine-tuned model."
    )
