"""The trainer as a process of its own: killed, stopped, started twice, and started once too often."""

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from runs import CLIPPY, PREFERENCES, TARGETS, MakeRun, contents, events, start

from luthier.run_directory import LoraRecipe, RunDirectory
from luthier.trainer import loop
from luthier.trainer.journal import Journal


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def steps(run: RunDirectory) -> list[int]:
    return [event["step"] for event in events(run) if event["kind"] == "metrics"]


@pytest.mark.parametrize("more", [{}, PREFERENCES], ids=["supervised", "dpo"])
def test_process_killed_then_stopped_then_left_alone_ends_with_the_bytes_of_a_calm_run(
    make_run: MakeRun, more: dict[str, Any]
) -> None:
    calm, rough = make_run("calm", n_epochs=20, **more), make_run("rough", n_epochs=20, **more)

    first = start(rough)
    wait(lambda: len(steps(rough)) >= 10)
    assert start(rough).wait() == 75  # another trainer has the run
    first.kill()
    first.wait()
    killed_at = steps(rough)[-1]
    with rough.events.open("ab") as stream:
        stream.write(b'{"kind":"metr')  # what a crash in the middle of a write leaves
    assert 10 <= killed_at < 80

    second = start(rough)
    wait(lambda: steps(rough)[-1] > killed_at)
    second.send_signal(signal.SIGTERM)
    assert second.wait() == 0
    stopped_at = steps(rough)[-1]
    assert events(rough)[-1]["kind"] != "succeeded"

    assert start(rough).wait() == 0
    assert events(rough)[-1]["kind"] == "succeeded"
    assert steps(rough) == list(range(1, 81))
    assert killed_at < stopped_at < 80
    verdict = loop.train(calm, calm.read_spec(), Journal(calm), lambda: False)
    assert verdict is not None
    assert contents(rough) == contents(calm)

    before = rough.events.read_bytes()
    assert start(rough).wait() == 0  # the verdict stands: nothing to do
    assert rough.events.read_bytes() == before


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
