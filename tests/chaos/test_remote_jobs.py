"""The supervisor over a cluster: jobs whose node, Ray head, service or run directories are lost at a bad moment."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import received
import remote
import rows
from fake_ray import FakeRay
from fakes import BASE
from job_reads import attempts, messages, refreshed
from luthier import model_folder
from luthier.core.models import Job, Principal
from luthier.core.states import JobStatus, Method
from luthier.core.training.hyperparameters import Hyperparameters
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.files import files
from luthier.service.jobs import job_creation, runs
from luthier.service.models.serving import Serving
from remote import Cluster, node_python

STEPS = 30
"""The light trainer's, which takes n_epochs for them."""


@pytest.fixture
def ray() -> Iterator[FakeRay]:
    with FakeRay() as head:
        yield head


@pytest.fixture
def cluster(ray: FakeRay, tmp_path: Path) -> Cluster:
    hf = tmp_path / "node-models" / BASE / "hf"
    hf.mkdir(parents=True)
    ray.environment["LUTHIER_MODELS_DIR"] = str(tmp_path / "node-models")
    for name in (model_folder.CONFIG, model_folder.WEIGHTS, *model_folder.PROMPT_FILES):
        (hf / name).touch()
    python = node_python(tmp_path, remote.SUPPORT / "light_trainer.py")
    return Cluster(ray, tmp_path, python, replace(remote.QUICK, lease_s=3.0, patience_s=5.0))


@pytest.fixture
def supervise(cluster: Cluster, context: Context, serving: Serving) -> Callable[[], Supervisor]:
    """A supervisor as a service has it that has just started."""
    return lambda: Supervisor(context, cluster.restarted(), serving, tick_s=0.01)


def create(context: Context, caller: Principal) -> Job:
    blob = received.blob(context, [rows.good()])
    file = files.create(context, caller.resource.id, "rows.jsonl", "fine-tune", blob)
    request = job_creation.JobRequest(
        model=BASE,
        training_file=file.id,
        validation_file=None,
        hyperparameters=Hyperparameters(n_epochs=STEPS, batch_size=5),
        method=Method.SUPERVISED,
        method_sent=False,
        seed=1,
        suffix=None,
        max_suffix=64,
        extras={},
    )
    return job_creation.create(context, caller.resource.id, request)


def tick_until(supervisor: Supervisor, is_true: Callable[[], bool], limit_s: float = 90) -> None:
    deadline = time.monotonic() + limit_s
    while not is_true():
        supervisor.tick()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def told_steps(context: Context, job: Job) -> list[int]:
    """The steps that the job's events tell of, as often as they do."""
    found = [re.match(r"Step (\d+)", message) for message in messages(context, job)]
    return sorted(int(match[1]) for match in found if match is not None)


@pytest.mark.parametrize("loses_disk", [False, True])
def test_job_whose_node_and_service_are_killed_succeeds_with_each_event_once(
    context: Context,
    caller: Principal,
    cluster: Cluster,
    ray: FakeRay,
    supervise: Callable[[], Supervisor],
    loses_disk: bool,
) -> None:
    supervisor, job = supervise(), create(context, caller)
    for number in (1, 2):
        id, least = f"{job.id}-{number}", 7 * number
        tick_until(supervisor, lambda: id in ray.jobs and len(told_steps(context, job)) >= least)  # noqa: B023
        ray.kill(id)
        supervisor = supervise()
        if loses_disk:
            remote.lose(runs.directory(context, job))
    tick_until(supervisor, lambda: refreshed(context, job).status is JobStatus.SUCCEEDED)
    assert told_steps(context, job) == list(range(1, STEPS + 1))
    assert [attempt.number for attempt in attempts(context, job)] == [1, 2, 3]
    run = runs.directory(context, job)
    tick_until(supervisor, lambda: not run.path.exists())
    assert not list(context.blobs.stored(f"runs/{job.id}"))
    assert not [path for path in (cluster.folder / "store").rglob("*") if path.is_file()]
