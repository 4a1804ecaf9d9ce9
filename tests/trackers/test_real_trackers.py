"""W&B, MLflow, trackio and TensorBoard themselves: what their own readers find after kills in between.

Each test takes up to some minutes on a busy machine: W&B and MLflow take seconds to start.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import sink_kills
import tracked
from luthier.core.models import Principal
from luthier.core.states import JobStatus, TrackedStatus
from luthier.core.training.tracking import MlflowTarget, TrackingTargets, WandbTarget
from luthier.service.context import Context
from luthier.store.queries import events
from luthier.trackers import tracker_choice
from sink_kills import Sender
from waiting import until

pytestmark = [pytest.mark.trackers]

STEPS = 120
KINDS = ("tensorboard", "mlflow", "wandb", "trackio")
INTEGRATION = [{"type": "wandb", "wandb": {"project": "house", "entity": "team", "tags": ["mine"]}}]
Read = Callable[[str, str], dict[str, Any]]


@pytest.fixture
def context(context: Context, python: str, mlflow_uri: str, tmp_path: Path) -> Context:
    targets = TrackingTargets(
        tensorboard=tmp_path / "tensorboard",
        mlflow=MlflowTarget(mlflow_uri),
        wandb=WandbTarget(tmp_path / "wandb"),
        trackio=tmp_path / "trackio",
        python=python,
        timeout_s=60.0,
    )
    return replace(context, tracking=targets)


@pytest.fixture
def sender(context: Context) -> Iterator[Sender]:
    made = Sender(context)
    yield made
    made.close()


@pytest.fixture
def read(context: Context, python: str, tmp_path: Path) -> Read:
    """What a tracker's own reader finds of a job."""

    def run(kind: str, job_id: str) -> dict[str, Any]:
        program = Path(__file__).with_name("read_back.py")
        assert context.tracking.mlflow is not None
        where = context.tracking.mlflow.uri if kind == "mlflow" else str(tmp_path / kind)
        # The environment of the tests has TensorBoard, which needs none of its own.
        done = subprocess.run([python, str(program), kind, where, job_id], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    return run


def rows(found: dict[str, Any]) -> tracked.Figures:
    return tracked.once([(step, name, value) for step, name, value in found["rows"]])


def test_kills_at_random_moments_leave_every_step_once_in_each_tracker(
    context: Context, caller: Principal, sender: Sender, read: Read
) -> None:
    job = tracked.started_job(context, caller.resource.id, integrations=INTEGRATION)
    sink_kills.killed_at_random(context, sender, job, STEPS, kills=5, within_s=8.0, seed=1)
    expected = tracked.expected(tracked.points(1, STEPS))
    found = {kind: read(kind, job.id) for kind in KINDS}
    assert {kind: rows(each) == expected for kind, each in found.items()} == dict.fromkeys(KINDS, True)
    assert (found["mlflow"]["status"], found["mlflow"]["params"]["n_epochs"]) == ("FINISHED", "2")
    assert (found["trackio"]["name"], found["trackio"]["params"]["seed"]) == (job.id, "1")
    [run] = found["wandb"]["runs"]
    vendor = ["openai/finetune", "openai/tiny", f"openai/{job.id}"]
    assert (run["run_id"], run["project"], run["entity"]) == (job.id, "house", "team")
    assert (run["tags"], run["host"]) == (["mine", *vendor], "luthier")
    summary = found["wandb"]["summary"]
    assert (summary["state"], summary["exit_code"], summary["summary"]["trained_tokens"]) == ("finished", 0, "200")
    with context.database.reading() as tx:
        told = [event.message for _, event in events.list_numbered(tx, job.id, 0, 1000)]
    assert len([text for text in told if text.startswith("Metrics are sent to")]) == len(KINDS)
    assert "private" not in json.dumps(found)


def test_kills_in_the_middle_of_the_end_leave_every_step_once(
    context: Context, caller: Principal, sender: Sender, read: Read
) -> None:
    """The job has ended already, so each start opens, sends and ends all runs: kills come closer and closer to it."""
    job = tracked.started_job(context, caller.resource.id, integrations=INTEGRATION)
    tracked.add_steps(context, job, 1, STEPS)
    tracked.finish(context, job, JobStatus.FAILED)
    for within_s in (2.0, 4.0, 6.0):
        sender.start()
        time.sleep(within_s)  # a kill may come at any moment
        sender.kill()
        sender.reap()
    sender.start()
    until(lambda: sink_kills.is_done(context, job), 60)
    expected = tracked.expected(tracked.points(1, STEPS))
    found = {kind: read(kind, job.id) for kind in KINDS}
    assert {kind: rows(each) == expected for kind, each in found.items()} == dict.fromkeys(KINDS, True)
    assert found["mlflow"]["status"] == "FAILED"
    assert found["wandb"]["summary"]["exit_code"] == 1


def test_numbers_that_are_not_finite_survive_where_the_tracker_has_them(context: Context, read: Read) -> None:
    values = {"a": float("nan"), "b": float("inf")}
    point = replace(tracked.points(1, 1)[0], figures=values)
    job_id = tracked.JOB
    for sink in tracker_choice.sinks(context.tracking):
        sink.deliver(tracked.run(), [point], tracked.end(TrackedStatus.FINISHED))
        sink.close()
    found = {kind: {name: str(value) for _, name, value in read(kind, job_id)["rows"]} for kind in ("mlflow", "wandb")}
    assert found["mlflow"] == {"a": "nan", "b": "1.7976931348623157e+308"}
    assert found["wandb"] == {"a": "NaN", "b": "Infinity"}
