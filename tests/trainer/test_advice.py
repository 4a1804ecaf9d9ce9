"""Advice from losses that are made by hand: what is said, what is not, and which checkpoints stay."""

from collections.abc import Sequence

import pytest

from luthier.core.states import AdviceCode
from luthier.run_directory.run_events import Advice, Metrics
from luthier.trainer.run import diagnosis, epochs

PER_EPOCH = 4


def told(training: Sequence[float], held_out: Sequence[float | None] = (), n_steps: int | None = None) -> list[Metrics]:
    """Steps with these losses; the whole validation file after each four of them."""
    ends = {PER_EPOCH * number: loss for number, loss in enumerate(held_out, start=1)}
    return [
        Metrics(
            at=float(step),
            step=step,
            n_steps=n_steps or len(training),
            train_loss=loss,
            train_mean_token_accuracy=0.5,
            full_valid_loss=ends.get(step),
            supervised_tokens=100,
        )
        for step, loss in enumerate(training, start=1)
    ]


def by_epoch(*losses: float) -> list[float]:
    """Four steps an epoch, a little above and below its loss."""
    return [loss + offset for loss in losses for offset in (0.02, -0.02, 0.01, -0.01)]


def given(steps: Sequence[Metrics], patience: int | None = None) -> list[Advice]:
    """All that is said in a run, each kind as often as it is found."""
    return [
        found for end in range(1, len(steps) + 1) for found in diagnosis.advice_on(steps[:end], PER_EPOCH, patience)
    ]


def test_advice_on_losses_that_fall_together_is_none() -> None:
    assert given(told(by_epoch(1.6, 1.1, 0.9, 0.8), [1.2, 1.0, 0.95, 0.94])) == []


def test_advice_on_a_rising_validation_loss_names_step_and_best_epoch() -> None:
    found = given(told(by_epoch(1.6, 1.1, 0.7, 0.4), [1.2, 1.0, 1.01, 1.2]))
    assert [(one.code, one.step, one.epoch) for one in found] == [(AdviceCode.OVERFITTING, 16, 4)]
    assert (found[0].prefer_step, found[0].prefer_epoch) == (8, 2)
    assert "from 1.000 to 1.200 at step 16" in found[0].message
    assert "first epoch" not in found[0].message


def test_advice_where_the_first_epoch_was_the_best_asks_about_the_answers() -> None:
    [found] = given(told(by_epoch(1.6, 1.1), [1.0, 1.1]))
    assert found.prefer_step == 4
    assert "its answers do not follow from its prompts" in found.message


def test_advice_on_both_losses_rising_speaks_of_no_overfitting() -> None:
    assert given(told(by_epoch(1.0, 1.2, 1.1, 0.9), [1.0, 1.2, 1.1, 0.9])) == []


@pytest.mark.parametrize("held_out", [(), (1.1, 8.0, 9.0, 9.0)])
def test_advice_on_divergence_comes_at_once_and_alone(held_out: Sequence[float]) -> None:
    steps = told([1.6, 1.5, 1.4, 1.2, *[6.0, 8.0, 7.5, 7.0], *by_epoch(7.0, 7.0)], held_out)
    found = given(steps)
    assert {one.code for one in found} == {AdviceCode.DIVERGING}
    assert found[0].step == 8, "four steps are a quarter of the run, and these are the first four that all lost so much"
    assert found[0].prefer_step == 4
    assert "a tenth of its learning_rate_multiplier" in found[0].message


def test_advice_on_divergence_from_the_start_prefers_no_checkpoint() -> None:
    [*_, last] = given(told([1.6, *by_epoch(7.0, 7.0), 7.0, 7.0, 7.0]))
    assert last.prefer_step is None
    assert "No checkpoint of this run is worth using" in last.message


def test_advice_on_one_bad_batch_is_none() -> None:
    assert given(told([1.6, 1.5, 1.4, 1.2, 1.1, 6.0, 1.0, 0.9, *by_epoch(0.8, 0.7)])) == []


@pytest.mark.parametrize("training", [by_epoch(1.6, 1.6, 1.59), [1.6] * 16, by_epoch(1.6, 1.5, 1.56)])
def test_advice_on_a_loss_that_stands_says_that_nothing_was_learned(training: list[float]) -> None:
    [found] = given(told(training))
    assert (found.code, found.step) == (AdviceCode.NOTHING_LEARNED, len(training))
    assert "Nothing was learned" in found.message


def test_advice_on_one_epoch_compares_its_quarters() -> None:
    flat = [diagnosis.advice_on(told([1.5] * n), n, None) for n in (8, 7)]
    assert [len(found) for found in flat] == [1, 0], "fewer than eight steps say nothing"
    assert diagnosis.advice_on(told([1.6, 1.6, 1.3, 1.2, 1.1, 1.1, 1.0, 1.0]), 8, None) == []


def test_advice_where_only_the_first_epoch_helped() -> None:
    [found] = given(told(by_epoch(3.0, 2.3, 2.2), [2.3, 2.29, 2.31]))
    assert (found.code, found.prefer_step) == (AdviceCode.NOTHING_LEARNED, 8)
    assert "does not follow from its prompt" in found.message


def test_advice_at_an_early_stop_is_that_of_the_end() -> None:
    steps = told(by_epoch(1.6, 1.6, 1.6), [1.5, 1.5, 1.5], n_steps=40)
    assert given(steps) == []
    assert [one.code for one in given(steps, patience=2)] == [AdviceCode.NOTHING_LEARNED]


def kept(held_out: Sequence[float | None], keep: int) -> list[int]:
    whole = epochs.finished_epochs(told(by_epoch(*(1.0 - 0.1 * n for n in range(len(held_out)))), held_out), PER_EPOCH)
    return [epoch.number for epoch in epochs.kept(whole, keep)]


@pytest.mark.parametrize(
    ("held_out", "keep", "expected"),
    [
        ([None, None, None, None, None], 3, [3, 4, 5]),
        ([1.0, 0.9, 0.8, 0.7, 0.6], 3, [3, 4, 5]),
        ([1.0, 0.9, 0.95, 0.99, 1.1, 1.2], 3, [2, 4, 5, 6]),
        ([1.0, 0.9, 0.95, 0.99, 0.8, 1.2], 3, [4, 5, 6]),
        ([1.0, 1.1, 1.2], 2, [1, 2, 3]),
        ([1.0, 1.1, 1.2], 1, [1, 3]),
    ],
)
def test_kept_checkpoints_are_the_newest_and_the_best_beside_them(
    held_out: list[float | None], keep: int, expected: list[int]
) -> None:
    assert kept(held_out, keep) == expected


def test_dropped_is_what_kept_loses_epoch_by_epoch() -> None:
    whole = epochs.finished_epochs(told(by_epoch(0.9, 0.8, 0.7, 0.6, 0.5), [1.0, 0.9, 0.95, 0.99, 1.1]), PER_EPOCH)
    gone = [[one.number for one in epochs.dropped(whole[:end], 2)] for end in range(1, 6)]
    assert gone == [[], [], [1], [], [3]]


def test_stalled_counts_epochs_since_the_best() -> None:
    whole = epochs.finished_epochs(told(by_epoch(0.9, 0.8, 0.7, 0.6), [1.0, 0.9, 0.95, 0.99]), PER_EPOCH)
    assert [epochs.stalled(whole[:end], 2) for end in range(5)] == [False, False, False, False, True]
    assert not epochs.stalled(whole, None)
