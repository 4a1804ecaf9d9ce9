"""kill -9 of whatever sends metrics, at random moments and around each call: nothing lost, nothing twice."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import fake_mlflow
import fake_trackio
import tracked
from fake_mlflow import FakeMlflow
from luthier.core.models import Job, Principal
from luthier.core.states import SinkState
from luthier.core.training.tracking import MlflowTarget, TrackingTargets
from luthier.service.context import Context
from luthier.store.queries.delivery import sink_cursors
from waiting import until

PROGRAM = Path(tracked.__file__).with_name("sink_process.py")
STEPS = 400


@dataclass
class Sender:
    """The process, started again and again over one data folder."""

    argument: str
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        command = [sys.executable, str(PROGRAM), self.argument]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"begins\n"

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def reap(self) -> None:
        """After a kill, ours or another's."""
        if self.process is not None:
            self.process.wait(30)
            for pipe in (self.process.stdin, self.process.stdout):
                assert pipe is not None
                pipe.close()
            self.process = None


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
def sender(context: Context, mlflow: FakeMlflow) -> Iterator[Sender]:
    targets = context.tracking
    told = {"data": context.data_folder, "tensorboard": targets.tensorboard, "mlflow": mlflow.uri}
    told |= {"trackio": targets.trackio, "python": targets.python}
    made = Sender(json.dumps({name: str(value) for name, value in told.items()}))
    yield made
    made.kill()
    made.reap()


def is_done(context: Context, job: Job) -> bool:
    with context.database.reading() as tx:
        return all(cursor.state is SinkState.DONE for cursor in sink_cursors.list_of_job(tx, job.id))


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


def killed_at_random(context: Context, mlflow: FakeMlflow, sender: Sender, job: Job, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    parts = kills + 1
    for number in range(parts):
        sender.start()
        step = number * STEPS // parts
        for first in range(step + 1, (number + 1) * STEPS // parts + 1, 5):
            tracked.add_steps(context, job, first, min(first + 4, (number + 1) * STEPS // parts))
        if number < kills:
            time.sleep(chance.uniform(0.0, 0.25))  # a kill may come at any moment
            sender.kill()
            sender.reap()
    tracked.finish(context, job)
    until(lambda: is_done(context, job), 30)
    check(context, mlflow, job, STEPS)


def test_kills_at_random_moments_lose_nothing_and_repeat_nothing(
    context: Context, caller: Principal, mlflow: FakeMlflow, sender: Sender
) -> None:
    job = tracked.started_job(context, caller.resource.id)
    killed_at_random(context, mlflow, sender, job, kills=4, seed=1)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(5))
def test_many_kills_at_random_moments_lose_nothing_and_repeat_nothing(
    context: Context, caller: Principal, mlflow: FakeMlflow, sender: Sender, seed: int
) -> None:
    job = tracked.started_job(context, caller.resource.id)
    killed_at_random(context, mlflow, sender, job, kills=20, seed=seed)


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
    for _ in range(5):
        sender.start()
        assert sender.process is not None
        until(lambda: is_done(context, job) or sender.process.poll() is not None, 30)
        if is_done(context, job):
            break
        sender.reap()
    assert len(killed) == 4
    until(lambda: is_done(context, job), 30)
    check(context, mlflow, job, 30)
