"""The epochs of a run from its step metrics: which is the best, whose checkpoints are kept, when to stop early.

Pure functions: the loop, checkpoint retention and the diagnosis of losses ask them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from luthier.run_directory.run_events import Metrics


@dataclass(frozen=True, slots=True)
class Epoch:
    """A whole epoch, counted from 1, and its last step. Losses are nats per supervised token, in DPO per pair.

    `train_loss` is the mean over the steps of the epoch, each with the weights as they were then; `valid_loss` that of
    the whole validation file after the last step, None without such a file.
    """

    number: int
    step: int
    train_loss: float
    valid_loss: float | None

    @property
    def score(self) -> float:
        """What epochs are compared by, lower is better: the validation loss, or the training loss if there is none."""
        return self.train_loss if self.valid_loss is None else self.valid_loss


def finished_epochs(steps: Sequence[Metrics], steps_per_epoch: int) -> list[Epoch]:
    """The finished epochs among `steps`, which begin at the run's first step; empty before the first epoch's end."""
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
    """The mean training loss of these steps, each weighted by its supervised tokens (1 where they are not known)."""
    weights = [step.supervised_tokens or 1 for step in steps]
    return sum(step.train_loss * weight for step, weight in zip(steps, weights, strict=True)) / sum(weights)


def best(epochs: Sequence[Epoch]) -> Epoch:
    """The epoch with the lowest score, the earliest of equals. There must be one."""
    return min(epochs, key=lambda epoch: epoch.score)


def kept(epochs: Sequence[Epoch], keep: int) -> list[Epoch]:
    """The epochs whose checkpoints stay: the `keep` newest, and the best beside them if it is older.

    It depends on the metrics alone, so a resumed run drops what an undisturbed one does. An epoch that was dropped is
    never the best again.
    """
    return [epoch for epoch in epochs if epoch in epochs[-keep:] or epoch is best(epochs)]


def dropped(epochs: Sequence[Epoch], keep: int) -> list[Epoch]:
    """The epochs whose checkpoints are deleted once the last epoch's is saved: kept before it, and not after."""
    staying = kept(epochs, keep)
    return [epoch for epoch in kept(epochs[:-1], keep) if epoch not in staying]


def stalled(epochs: Sequence[Epoch], patience: int | None) -> bool:
    """Whether `patience` epochs have passed since the best one, so that the run ends; False if it is None."""
    return bool(epochs) and patience is not None and epochs[-1].number - best(epochs).number >= patience


def stopped_words(epochs: Sequence[Epoch], n_epochs: int) -> str:
    """The message for a run that ended before its last epoch."""
    champion = best(epochs)
    return (
        f"Stopped early after epoch {len(epochs)} of {n_epochs}: the validation loss was lowest after epoch "
        f"{champion.number} (step {champion.step}), and that checkpoint is the fine-tuned model."
    )
