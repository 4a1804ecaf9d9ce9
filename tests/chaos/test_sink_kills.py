"""kill -9 of whatever sends metrics, at random moments and around each call: nothing lost, nothing twice."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import fake_mlflow
import fake_trackio
import sink_kills
import tracked
from fake_mlflow import FakeMlflow
from luthier.core.models import Job, Principal
from luthier.core.training.tracking import MlflowTarget, TrackingTargets
from luthier.service.context import Context
from sink_kills import Sender
from waiting import until

STEPS = 400


@pytest.fixture
def mlflow() -> Iterator[FakeMlflow]:
    with fake_mlflow.running() as fake:
        yield fake


@pytest.fixture
def context(context: Context, mlflow: FakeMlflow, tmp_path: Path) -> Context:
    targets = TrackingTargets(
        tensorboard=tmp_path / "tensorboard",
        mlflow=MlflowTarget(mlflow.uri),
        trackio=tmp_path / "trackio",
        python=fake_trackio.interpreter(tmp_path),
    )
    return replace(context, tracking=targets)


@pytest.fixture
def sender(context: Context) -> Iterator[Sender]:
    made = Sender(context)
    yield made
    made.close()


def check(context: Context, mlflow: FakeMlflow, job: Job, last: int) -> None:
    """Every sink has every figure of every step exactly once, and the job's end."""
    expected = tracked.expected(tracked.points(1, last))
    targets = context.tracking
    path = tracked.event_file(targets.tensorboard, job.id)
    rows = [row for row in tracked.tags_and_steps(path) if row[0] > 0]
    assert set(tracked.once(rows)) == set(expected)
    run = mlflow.run_of(job.id)
    assert tracked.once([(m["step"], m["key"], m["value"]) for m in run["metrics"]]) == expected
    assert run["status"] == "FINISHED"
    logged = [
        (int(row["step"]), name, value)
        for row in fake_trackio.rows(targets.trackio, "luthier", job.id)
        for name, value in row.items()
        if name != "step"
    ]
    assert tracked.once(logged) == expected


def test_kills_at_random_moments_lose_nothing_and_repeat_nothing(
    context: Context, caller: Principal, mlflow: FakeMlflow, sender: Sender
) -> None:
    job = tracked.started_job(context, caller.resource.id)
    sink_kills.killed_at_random(context, sender, job, STEPS, kills=4, within_s=0.25, seed=1)
    check(context, mlflow, job, STEPS)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(5))
def test_many_kills_at_random_moments_lose_nothing_and_repeat_nothing(
    context: Context, caller: Principal, mlflow: FakeMlflow, sender: Sender, seed: int
) -> None:
    job = tracked.started_job(context, caller.resource.id)
    sink_kills.killed_at_random(context, sender, job, STEPS, kills=20, within_s=0.25, seed=seed)
    check(context, mlflow, job, STEPS)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_kill_around_a_call_that_stores_repeats_nothing(
    context: Context, caller: Principal, mlflow: FakeMlflow, sender: Sender, moment: str
) -> None:
    """The server itself kills its client: once a call has come, or once it is carried out and before its answer."""
    job = tracked.started_job(context, caller.resource.id)
    tracked.add_steps(context, job, 1, 30)
    tracked.finish(context, job)
    killed: list[str] = []

    def kill(number: int) -> None:
        call = mlflow.calls[-1]
        if call in {"runs/create", "runs/log-batch", "runs/update"} and killed.count(call) < 1 + (call[5] == "l"):
            killed.append(call)
            sender.kill()

    setattr(mlflow, moment, kill)
    for kills in range(1, 5):
        sender.start()
        until(lambda kills=kills: len(killed) == kills, 30)
        sender.reap()
    sender.start()
    until(lambda: sink_kills.is_done(context, job), 30)
    check(context, mlflow, job, 30)
