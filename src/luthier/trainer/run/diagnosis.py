"""Advice from a run's losses, in plain words: overfitting, divergence, nothing learned. Pure.

Each finding follows from the steps so far, so a resumed run comes to the same ones. The thresholds and what they were
tried on stand in docs/hyperparameters.md.
"""

from collections.abc import Sequence

from luthier.core.states import AdviceCode
from luthier.run_directory.run_events import Advice, Metrics
from luthier.trainer.run import epochs
from luthier.trainer.run.epochs import Epoch

RISE = 1.02
"""A loss above an earlier one by this factor has risen; below lies what an epoch moves either way."""
STANDS = 0.97
"""A training loss that is not below this share of what it was has not fallen."""
STANDS_HELD_OUT = 0.99
"""The same for the whole validation file: the same rows each time, so less moves by chance."""
FIRST_STEPS, LAST_STEPS = 3, 5
"""Steps whose losses are held against each other, fewer in a run of under twenty."""
DIVERGED_FACTOR, DIVERGED_NATS = 2.0, 1.0
"""A run diverges where each of its last steps lost more than the best of the first by this factor and so many nats."""
LEAST_STEPS = 8
"""A single epoch of fewer steps says nothing about whether it learned."""


def advice_on(steps: Sequence[Metrics], steps_per_epoch: int, patience: int | None) -> list[Advice]:
    """The advice that the losses give after the last of `steps`, all steps of the run so far; empty for none.

    The same advice may come again after later steps: the event log keeps the first. `patience` is how many epochs
    without a better one end the run, None for never.
    """
    whole = epochs.finished_epochs(steps, steps_per_epoch) if len(steps) % steps_per_epoch == 0 else []
    if _diverges(steps, len(steps)):
        return [_diverging(steps, steps_per_epoch)]
    if not whole or any(_diverges(steps, end) for end in range(1, len(steps))):
        return []
    if found := _overfitting(whole, steps[-1].at):
        return [found]
    ends = steps[-1].step == steps[-1].n_steps or epochs.stalled(whole, patience)
    return _nothing_learned(steps, whole) if ends else []


def _diverges(steps: Sequence[Metrics], end: int) -> bool:
    """Whether the last losses before step `end` were all far above the best of the first; False in too few steps."""
    first, last = _ends(steps)
    if end < first + last:
        return False
    began = min(step.train_loss for step in steps[:first])
    bound = max(began * DIVERGED_FACTOR, began + DIVERGED_NATS)
    return min(step.train_loss for step in steps[end - last : end]) > bound


def _ends(steps: Sequence[Metrics]) -> tuple[int, int]:
    """How many of the first and of the last steps' losses are compared: fewer in a short run."""
    quarter = max(1, steps[0].n_steps // 4)
    return min(FIRST_STEPS, quarter), min(LAST_STEPS, quarter)


def _diverging(steps: Sequence[Metrics], steps_per_epoch: int) -> Advice:
    """The advice on divergence; it prefers the best epoch from before it, None if no epoch was better than step 1.

    Found again at each such step; the event log writes the first alone.
    """
    last, before = steps[-1], epochs.finished_epochs(steps[: -_ends(steps)[1]], steps_per_epoch)
    sound = [epoch for epoch in before if epoch.score <= steps[0].train_loss]
    text = (
        f"The run diverges: the training loss was {steps[0].train_loss:.3f} at step 1 and is {last.train_loss:.3f} at "
        f"step {last.step}. The learning rate is too high. Cancel the job and make a new one with a tenth of its "
        "learning_rate_multiplier."
    )
    if not sound:
        text += " No checkpoint of this run is worth using."
    return _advice(AdviceCode.DIVERGING, last, steps_per_epoch, text, epochs.best(sound) if sound else None)


def _overfitting(whole: Sequence[Epoch], at: float) -> Advice | None:
    """The advice if validation loss has risen since the best epoch while training loss fell; else None."""
    last, best = whole[-1], epochs.best(whole)
    if last.valid_loss is None or best.valid_loss is None:
        return None
    if last.valid_loss < RISE * best.valid_loss or last.train_loss >= best.train_loss:
        return None
    text = (
        f"Overfitting: since epoch {best.number} (step {best.step}) the validation loss has risen from "
        f"{best.valid_loss:.3f} to {last.valid_loss:.3f} at step {last.step}, while the training loss fell from "
        f"{best.train_loss:.3f} to {last.train_loss:.3f}: the model learns its rows by heart."
    )
    if best.number == 1:
        text += (
            " Nothing after the first epoch carried over to rows that it has not seen: there are too many epochs for "
            "this file, or its answers do not follow from its prompts."
        )
    return Advice(
        at=at,
        code=AdviceCode.OVERFITTING,
        step=last.step,
        epoch=last.number,
        message=text,
        prefer_step=best.step,
        prefer_epoch=best.number,
    )


def _nothing_learned(steps: Sequence[Metrics], whole: Sequence[Epoch]) -> list[Advice]:
    """At most one piece of advice: training loss never fell, or validation loss not after the first epoch.

    Asked at the run's end alone: before that the loss may still fall.
    """
    first, last = whole[0], whole[-1]
    if len(whole) == 1:
        quarter = len(steps) // 4
        before, after = (
            epochs.mean_loss(steps[: quarter or 1]),
            epochs.mean_loss(steps[-(quarter or 1) :]),
        )
        stands = len(steps) >= LEAST_STEPS and after >= STANDS * before
    else:
        before, after = first.train_loss, last.train_loss
        stands = after >= STANDS * before
    best = epochs.best(whole)
    if stands:
        rate = "too high (try a tenth" if after > RISE * before else "too low (try ten times"
        text = (
            f"Nothing was learned: the training loss was {before:.3f} in the beginning and is {after:.3f} at the end, "
            f"step {last.step}. Either the learning rate is {rate} the learning_rate_multiplier), or the answers do "
            "not follow from the prompts, or the model gave these answers before."
        )
        return [_advice(AdviceCode.NOTHING_LEARNED, steps[-1], first.step, text, None)]
    if len(whole) < 3 or first.valid_loss is None:
        return []
    later = min(epoch.score for epoch in whole[1:])
    if later <= STANDS_HELD_OUT * first.valid_loss:
        return []
    text = (
        f"Nothing more was learned after the first epoch: the validation loss was {first.valid_loss:.3f} at its end, "
        f"step {first.step}, and at best {later:.3f} since. What was learned is what all answers share; what each of "
        "them says does not follow from its prompt, or one epoch is enough for this file."
    )
    return [_advice(AdviceCode.NOTHING_LEARNED, steps[-1], first.step, text, best if best is not last else None)]


def _advice(code: AdviceCode, last: Metrics, steps_per_epoch: int, text: str, prefer: Epoch | None) -> Advice:
    """Advice found at the step `last`; `prefer` is the epoch whose checkpoint to use, None for no recommendation."""
    return Advice(
        at=last.at,
        code=code,
        step=last.step,
        epoch=-(-last.step // steps_per_epoch),
        message=text,
        prefer_step=prefer.step if prefer else None,
        prefer_epoch=prefer.number if prefer else None,
    )
