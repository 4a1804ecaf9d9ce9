"""Files of a run directory that a crash left torn, or that went missing: a clear state, and the bytes of a calm run."""

import json
import shutil
from collections.abc import Callable

import pytest

from disk import full_disk
from luthier.core.errors import Conflict, LuthierError, NoSpace
from luthier.core.states import Method
from luthier.run_directory.run_directory import EXIT_DAMAGED, RunDirectory
from luthier.run_directory.run_events import Message, Metrics
from luthier.trainer import __main__ as trainer
from luthier.trainer import loop
from luthier.trainer.run import results_csv
from luthier.trainer.run.event_log import EventLog
from luthier.trainer.run.resume_state import FILE
from runs import MakeRun, contents, events


def half(run: RunDirectory, steps: int = 6) -> RunDirectory:
    """A run that was stopped after this many of its twelve steps, its state saved."""
    event_log = EventLog(run)
    assert loop.train(run, run.read_spec(), event_log, lambda: event_log.step >= steps) is None
    return run


def to_the_end(run: RunDirectory) -> None:
    """Another attempt, as the process makes it."""
    run.repair()
    event_log = EventLog(run)
    verdict = loop.train(run, run.read_spec(), event_log, lambda: False)
    assert verdict is not None
    event_log.write(verdict)


def steps_of(run: RunDirectory) -> list[int]:
    return [event["step"] for event in events(run) if event["kind"] == "metrics"]


def said(run: RunDirectory, words: str) -> bool:
    return any(words in event.get("message", "") for event in events(run))


def lose_results(run: RunDirectory) -> None:
    run.results.unlink()


def tear_results(run: RunDirectory) -> None:
    run.results.write_bytes(run.results.read_bytes()[:-7])


def lengthen_results(run: RunDirectory) -> None:
    with run.results.open("ab") as stream:
        stream.write(b"7,0.5,0.5,,,,\n8,0.4,0.5,,,,\n9,0.")


def zero_results(run: RunDirectory) -> None:
    run.results.write_bytes(bytes(run.results.stat().st_size))


def leave_temporary_files(run: RunDirectory) -> None:
    (run.path / ".results.csv.tmp").write_bytes(b"step,tr")
    (run.resume / ".state.safetensors.tmp").write_bytes(bytes(1000))
    folder = run.checkpoints / ".step-000008.tmp"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(bytes(100))


def leave_half_a_checkpoint_to_come(run: RunDirectory) -> None:
    (run.checkpoints / "step-000008").mkdir()
    (run.checkpoints / "step-000008" / "adapter_model.safetensors").write_bytes(bytes(100))


@pytest.mark.parametrize(
    "hurt",
    [
        lose_results,
        tear_results,
        lengthen_results,
        zero_results,
        leave_temporary_files,
        leave_half_a_checkpoint_to_come,
    ],
)
def test_run_goes_on_from_its_saved_step_whatever_became_of_the_rest(
    make_run: MakeRun, hurt: Callable[[RunDirectory], None]
) -> None:
    calm, rough = make_run("calm"), half(make_run("rough"))
    to_the_end(calm)
    hurt(rough)
    to_the_end(rough)
    assert contents(rough) == contents(calm)
    assert steps_of(rough) == steps_of(calm)
    assert not said(rough, "begins again")
    assert not list(rough.path.rglob("*.tmp"))


def cut_the_state(run: RunDirectory) -> None:
    path = run.resume / FILE
    path.write_bytes(path.read_bytes()[:5000])


def lose_meta_of_a_checkpoint(run: RunDirectory) -> None:
    (run.checkpoints / "step-000004" / "meta.json").unlink()


def lose_checkpoints(run: RunDirectory) -> None:
    shutil.rmtree(run.checkpoints)


@pytest.mark.parametrize(
    ("hurt", "reason"),
    [
        (cut_the_state, "the saved state cannot be read"),
        (lose_meta_of_a_checkpoint, "checkpoint step-000004 is not whole"),
        (lose_checkpoints, "checkpoint step-000004 is not whole"),
    ],
)
def test_run_whose_saved_step_lacks_something_begins_again_and_says_why(
    make_run: MakeRun, hurt: Callable[[RunDirectory], None], reason: str
) -> None:
    calm, rough = make_run("calm"), half(make_run("rough"))
    to_the_end(calm)
    hurt(rough)
    to_the_end(rough)
    assert said(rough, f"Training begins again from its first step, to the same end: {reason}.")
    assert contents(rough) == contents(calm)
    assert steps_of(rough) == steps_of(calm)


def test_run_whose_event_log_is_behind_its_saved_step_begins_again_and_tells_the_rest(make_run: MakeRun) -> None:
    calm, rough = make_run("calm"), half(make_run("rough"))
    to_the_end(calm)
    lines = rough.events.read_bytes().splitlines(keepends=True)
    before_step_3 = next(place for place, line in enumerate(lines) if json.loads(line).get("step") == 3)
    rough.events.write_bytes(b"".join(lines[:before_step_3]))
    to_the_end(rough)
    assert said(rough, "the event log ends before the saved step")
    assert contents(rough) == contents(calm)
    assert steps_of(rough) == steps_of(calm)


def test_event_log_cut_at_every_byte_tells_no_step_twice_and_loses_none(make_run: MakeRun) -> None:
    run = half(make_run())
    whole = run.events.read_bytes()
    told = [event for event in events(run) if event["kind"] == "metrics"]
    start = whole.rindex(b"\n", 0, whole.rindex(b"\n") - 400) + 1
    assert whole.count(b"\n", start) >= 2
    for cut in range(start, len(whole) + 1):
        run.events.write_bytes(whole[:cut])
        run.repair()
        event_log = EventLog(run)
        assert event_log.step in (len(told) - 2, len(told) - 1, len(told))
        for event in told:
            event_log.metrics(Metrics.model_validate(event))
        assert steps_of(run) == list(range(1, len(told) + 1))


def test_event_log_with_a_damaged_line_ends_the_attempt_in_words_and_is_left_as_it_is(
    make_run: MakeRun, capfd: pytest.CaptureFixture[str]
) -> None:
    run = half(make_run())
    lines = run.events.read_bytes().splitlines(keepends=True)
    offset = len(lines[0])
    run.events.write_bytes(lines[0] + b'{"kind": "me\x00rics"}\n' + b"".join(lines[2:]))
    before = run.events.read_bytes()
    with pytest.raises(Conflict, match=f"damaged at byte {offset}") as caught:
        events(run)
    assert caught.value.code == "event_log_damaged"
    assert trainer.main([str(run.path)]) == EXIT_DAMAGED
    assert f"damaged at byte {offset}" in capfd.readouterr().err
    assert run.events.read_bytes() == before


def test_results_of_a_log_that_lacks_a_step_are_refused(make_run: MakeRun) -> None:
    run = half(make_run())
    lines = run.events.read_bytes().splitlines(keepends=True)
    run.events.write_bytes(b"".join(line for line in lines if json.loads(line).get("step") != 2))
    with pytest.raises(Conflict, match="lacks a step"):
        results_csv.rebuild(run, 6, Method.SUPERVISED)


def test_adapter_that_the_last_update_broke_is_no_checkpoint_and_no_model(make_run: MakeRun) -> None:
    run = make_run(n_epochs=1, batch_size=10, learning_rate=3e38)  # one step: no later loss would tell
    with pytest.raises(LuthierError, match="learning_rate_multiplier") as caught:
        loop.train(run, run.read_spec(), EventLog(run), lambda: False)
    assert caught.value.code == "training_diverged"
    assert not list(run.checkpoints.glob("*"))
    assert not any(event["kind"] == "checkpoint" for event in events(run))


def test_line_that_a_limit_cuts_short_is_not_there_at_all(make_run: MakeRun) -> None:
    run = half(make_run())
    before = run.events.read_bytes(), run.results.read_bytes()
    with full_disk(len(before[0]) + 10), pytest.raises(NoSpace, match="needs"):
        run.append(Message(at=1.0, message="does not fit"))
    metrics = Metrics(at=1, step=7, n_steps=9, train_loss=1, train_mean_token_accuracy=0)
    with full_disk(len(before[1]) + 5), pytest.raises(NoSpace, match="needs"):
        results_csv.append(run.results, metrics, Method.SUPERVISED)
    assert (run.events.read_bytes(), run.results.read_bytes()) == before
