"""The trainer as a process of its own: killed, stopped, started twice, and started once too often."""

import signal
from typing import Any

import pytest

from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import RunEvent
from luthier.run_directory.train_spec import LoraRecipe
from luthier.trainer import loop
from luthier.trainer.run.event_log import EventLog
from repository import CLIPPY
from runs import PREFERENCES, TARGETS, MakeRun, contents, events, start
from waiting import until


def steps(run: RunDirectory) -> list[int]:
    return [event["step"] for event in events(run) if event["kind"] == "metrics"]


@pytest.mark.parametrize("more", [{}, PREFERENCES], ids=["supervised", "dpo"])
def test_process_killed_then_stopped_then_left_alone_ends_with_the_bytes_of_a_calm_run(
    make_run: MakeRun, more: dict[str, Any]
) -> None:
    calm, rough = make_run("calm", n_epochs=20, **more), make_run("rough", n_epochs=20, **more)

    first = start(rough)
    until(lambda: len(steps(rough)) >= 10)
    assert start(rough).wait() == 75  # another trainer has the run
    first.kill()
    first.wait()
    killed_at = steps(rough)[-1]
    with rough.events.open("ab") as stream:
        stream.write(b'{"kind":"metr')  # what a crash in the middle of a write leaves
    assert 10 <= killed_at < 80

    second = start(rough)
    until(lambda: steps(rough)[-1] > killed_at)
    second.send_signal(signal.SIGTERM)
    assert second.wait() == 0
    stopped_at = steps(rough)[-1]
    assert events(rough)[-1]["kind"] != "succeeded"

    assert start(rough).wait() == 0
    assert events(rough)[-1]["kind"] == "succeeded"
    assert steps(rough) == list(range(1, 81))
    assert killed_at < stopped_at < 80
    verdict = loop.train(calm, calm.read_spec(), EventLog(calm), lambda: False)
    assert verdict is not None
    assert contents(rough) == contents(calm)

    before = rough.events.read_bytes()
    assert start(rough).wait() == 0  # the verdict stands: nothing to do
    assert rough.events.read_bytes() == before


class Cut(BaseException):
    """A kill, as far as the attempt is concerned: nothing that it could do comes after."""


class CutEventLog(EventLog):
    """Ends the attempt as soon as a step is told, or saved once `until_saved`."""

    def __init__(self, run: RunDirectory, *, until_saved: bool) -> None:
        super().__init__(run)
        self._until_saved = until_saved

    def write(self, event: RunEvent) -> None:
        super().write(event)
        if event.kind == ("saved" if self._until_saved else "metrics"):
            raise Cut


def test_run_that_is_cut_soon_after_each_first_step_gets_further_each_time_and_to_the_same_bytes(
    make_run: MakeRun,
) -> None:
    """A run that is saved only every minute would keep nothing of any of these attempts."""
    calm, rough = make_run("calm", n_epochs=2), make_run("rough", n_epochs=2)
    with pytest.raises(Cut):
        loop.train(rough, rough.read_spec(), CutEventLog(rough, until_saved=False), lambda: False)
    assert not rough.resume.exists()
    for step in range(1, 9):
        with pytest.raises(Cut):
            loop.train(rough, rough.read_spec(), CutEventLog(rough, until_saved=True), lambda: False)
        assert [event["step"] for event in events(rough) if event["kind"] == "saved"] == list(range(1, step + 1))
    assert loop.train(rough, rough.read_spec(), EventLog(rough), lambda: False) is not None
    assert loop.train(calm, calm.read_spec(), EventLog(calm), lambda: False) is not None
    assert contents(rough) == contents(calm)
    assert not rough.under_way.exists()


def test_process_asked_to_leave_while_it_loads_leaves_with_status_0(make_run: MakeRun) -> None:
    run = make_run(n_epochs=50)
    loading = start(run)
    until(run.lock.exists)
    until(run.events.exists)
    loading.send_signal(signal.SIGTERM)
    assert loading.wait(60) == 0
    assert "succeeded" not in [event["kind"] for event in events(run)]
    assert not run.under_way.exists(), "the next attempt would take this one for a crash"


@pytest.mark.parametrize(
    ("n_rows", "code", "param"), [(9, "too_few_examples", "training_file"), (10, "invalid_spec", None)]
)
def test_process_that_cannot_train_says_why_in_its_verdict(
    make_run: MakeRun, n_rows: int, code: str, param: str | None
) -> None:
    run = make_run(rows=b"".join(CLIPPY.read_bytes().splitlines(keepends=True)[:n_rows]))
    if code == "invalid_spec":
        run.spec.write_text('{"version": 99}')
    assert start(run).wait() == 0
    verdict = events(run)[-1]
    assert (verdict["kind"], verdict["code"], verdict.get("param")) == ("failed", code, param)


def test_process_that_gets_no_memory_says_so_and_what_to_lower(make_run: MakeRun) -> None:
    run = make_run(lora=LoraRecipe(rank=1 << 40, alpha=8, targets=TARGETS))  # petabytes
    assert start(run).wait() == 0
    verdict = events(run)[-1]
    assert (verdict["kind"], verdict["code"]) == ("failed", "out_of_memory"), run.log.read_text()
    assert "batch_size" in verdict["message"]
    log = run.log.read_text()
    assert "builtins.RuntimeError" in log
    assert "loop.py:" in log
    assert "allocate" not in log, "an error's words may quote rows: its kind and frames are all that is kept"
