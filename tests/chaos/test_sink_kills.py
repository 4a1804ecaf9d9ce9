"""kill -9 of whatever sends metrics, at random moments and around each call: nothing lost, nothing twice."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import fake_mlflow
import fake_trackio
import sink_kills
import tracked
from fake_mlflow import FakeMlflow
from installed import Install
from luthier import data_folder
from luthier.core.models import Job, Principal
from luthier.core.states import JobStatus, SinkName, SinkState
from luthier.core.training.tracking import MlflowTarget, TrackingTargets
from luthier.service.context import Context
from luthier.store.queries.delivery import sink_cursors
from sink_kills import Sender
from waiting import PATIENCE, until

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
        until_as_many(killed, kills)
        sender.reap()
    sender.start()
    until(lambda: sink_kills.is_done(context, job), 30)
    check(context, mlflow, job, 30)


def until_as_many(killed: list[str], n: int) -> None:
    until(lambda: len(killed) == n, 30)


def test_service_sends_metrics_while_one_tracker_hangs_and_after_a_kill(install: Install, tmp_path: Path) -> None:
    with fake_mlflow.running() as hanging:
        hanging.before = hanging.hang
        folder = tmp_path / "tensorboard"
        places = {"LUTHIER_TENSORBOARD_DIR": str(folder), "LUTHIER_MLFLOW_URI": hanging.uri, "LUTHIER_TICK_S": "0.05"}
        service = install("one", **places)
        for number in range(2):
            service.start()
            with data_folder.open_data(service.settings()) as context:
                job = tracked.started_job(context, "default", JobStatus.SUCCEEDED, steps=9)
                until_sent(context, job)
            rows = tracked.tags_and_steps(tracked.event_file(folder, job.id))
            expected = tracked.expected(tracked.points(1, 9))
            assert {key for key in tracked.once(rows) if key[0] > 0} == set(expected), number
            service.upload()  # it answers meanwhile
            if number == 0:
                service.kill()
        began = time.monotonic()
        service.stop()
        assert time.monotonic() - began < 10 * PATIENCE
        assert hanging.calls


def until_sent(context: Context, job: Job) -> None:
    """Returns when TensorBoard has the job."""

    def is_sent() -> bool:
        with context.database.reading() as tx:
            states = {each.sink: each.state for each in sink_cursors.list_of_job(tx, job.id)}
        return states[SinkName.TENSORBOARD] is SinkState.DONE

    until(is_sent, 30)
