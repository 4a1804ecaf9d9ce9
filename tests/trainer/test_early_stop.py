"""Advice and early stopping in real runs of the tiny model: what is told, which checkpoints stay, whatever happens."""

import shutil

import pytest

from luthier.run_directory.run_directory import RunDirectory
from luthier.trainer import loop
from runs import MakeRun, contents, events
from training import OVERFIT, Crash, CrashingEventLog, apples, noise, shown, train

STEPS = 5


def advice(run: RunDirectory) -> list[dict[str, object]]:
    return [event for event in events(run) if event["kind"] == "advice"]


def held_out(run: RunDirectory) -> list[float]:
    return [
        event["full_valid_loss"] for event in events(run) if event["kind"] == "metrics" and "full_valid_loss" in event
    ]


def best_epoch(run: RunDirectory) -> int:
    losses = held_out(run)
    return losses.index(min(losses)) + 1


def test_train_on_rows_learned_by_heart_advises_the_best_epoch_and_keeps_it(make_run: MakeRun) -> None:
    run = make_run(**OVERFIT)
    train(run)
    best = best_epoch(run)
    assert best < 6  # older than the three newest, which stay too
    [found] = advice(run)
    assert found["code"] == "overfitting"
    assert (found["prefer_epoch"], found["prefer_step"]) == (best, best * STEPS)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == [
        f"step-{epoch * STEPS:06d}" for epoch in (best, 6, 7, 8)
    ]


def test_train_with_patience_ends_at_the_best_checkpoint(make_run: MakeRun) -> None:
    run, whole = make_run("run", **OVERFIT, early_stop_patience=2), make_run("whole", **OVERFIT)
    verdict, last = train(run), train(whole)
    best = best_epoch(run)
    assert best == best_epoch(whole)
    assert len(held_out(run)) == best + 2
    assert (verdict.model_step, last.model_step) == (best * STEPS, None)
    assert verdict.trained_tokens == last.trained_tokens * (best + 2) // 8
    assert events(run)[-2]["message"].startswith(f"Stopped early after epoch {best + 2} of 8:")
    adapter = f"step-{best * STEPS:06d}/adapter_model.safetensors"
    assert (run.checkpoints / adapter).read_bytes() == (whole.checkpoints / adapter).read_bytes()


def test_train_with_patience_and_no_reason_to_stop_takes_all_epochs(make_run: MakeRun) -> None:
    run = make_run(rows=apples(range(12)), valid=apples(range(12)), n_epochs=3, early_stop_patience=1)
    assert train(run).model_step == 12
    assert not any("Stopped early" in event.get("message", "") for event in events(run))


def test_train_on_rows_that_can_be_learned_gets_no_advice(make_run: MakeRun) -> None:
    run = make_run(rows=apples(range(20)), valid=apples(range(20, 32)), n_epochs=5, batch_size=4)
    train(run)
    assert advice(run) == []


def test_train_with_a_rate_a_thousand_times_too_high_is_told_to_lower_it(make_run: MakeRun) -> None:
    parent = make_run("parent", rows=apples(range(20)), n_epochs=5, batch_size=4)
    train(parent)
    child = make_run("child", rows=apples(range(20)), n_epochs=4, batch_size=4, learning_rate=10.0, continued=True)
    shutil.copytree(max(parent.checkpoints.iterdir()), child.parent)
    train(child)
    [found] = advice(child)
    assert found["code"] == "diverging"
    assert int(str(found["step"])) <= 10, "it is said while there is still something to cancel"
    assert "a tenth of its learning_rate_multiplier" in str(found["message"])


def test_train_with_a_rate_far_too_low_is_told_that_nothing_was_learned(make_run: MakeRun) -> None:
    run = make_run(rows=noise(12, 1), valid=noise(12, 2), learning_rate=1e-7)
    train(run)
    [found] = advice(run)
    assert (found["code"], found["step"]) == ("nothing_learned", 12)


@pytest.mark.parametrize("patience", [None, 2])
def test_train_crashes_around_advice_change_nothing(make_run: MakeRun, patience: int | None) -> None:
    calm = make_run("calm", **OVERFIT, early_stop_patience=patience)
    rough = make_run("rough", **OVERFIT, early_stop_patience=patience)
    train(calm)
    [told] = advice(calm)
    # In their order: the checkpoint of that epoch may be held then, and proven only before a later one is told.
    last = max(event["step"] for event in events(calm) if event["kind"] == "checkpoint")
    around = [event for event in events(calm) if event.get("step") in (told["step"], last) and event["kind"] != "saved"]
    kinds = [(event["kind"], event["step"]) for event in around]
    places = [(kind, step, written) for kind, step in kinds for written in (False, True)]
    for kind, step, written in [*places, ("succeeded", None, False)]:
        event_log = CrashingEventLog(rough, kind, step, written)
        with pytest.raises(Crash):
            event_log.write(loop.train(rough, rough.read_spec(), event_log, lambda: False))
    train(rough)
    assert contents(rough) == contents(calm)
    of_rough, of_calm = ([shown(e) for e in events(run) if e["kind"] != "saved"] for run in (rough, calm))
    assert of_rough == of_calm
