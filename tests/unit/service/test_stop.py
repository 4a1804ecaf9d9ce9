"""Stopping the service: fast, whatever waits or runs, and nothing is lost."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

import received
import rows
from fakes import ScriptedExecutor
from job_reads import refreshed
from luthier.core.errors import NotFound
from luthier.core.models import Job, Principal
from luthier.core.states import AttemptEnd, DeploymentState, JobStatus
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.files import data_reports, files
from luthier.service.jobs import runs
from luthier.service.models import deployments
from luthier.service.models.serving import Serving
from luthier.service.shutdown import Stopped
from luthier.store.queries import attempts as attempt_rows
from luthier.store.queries import jobs as job_rows

STOP_BAR_S = 3.0


@dataclass
class Endless:
    """A blob store whose files never end."""

    blobs: Any
    chunks_read: int = 0

    def open(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        while True:
            self.chunks_read += 1
            yield rows.good()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.blobs, name)


def at_work(supervisor: Supervisor, executor: ScriptedExecutor, job: Job) -> None:
    """Has a supervisor, not yet in its threads, put a trainer to work on the job."""
    executor.trainer, executor.alive = (lambda run: None), {"fake:1"}
    supervisor.tick_files()
    supervisor.tick_runs()
    assert refreshed(supervisor.context, job).status is JobStatus.RUNNING


def after(n: int) -> Callable[[], bool]:
    """A service that is to stop from the n-th look on."""
    looks = iter(range(n))
    return lambda: next(looks, None) is None


def test_stop_interrupts_the_check_of_a_jobs_file_until_the_next_start(
    context: Context, create: Callable[..., Job]
) -> None:
    job = create()
    endless = Endless(context.blobs)
    with pytest.raises(Stopped):
        runs.validate_files(replace(context, blobs=endless), job, after(5))
    assert endless.chunks_read == 6
    assert refreshed(context, job).status is JobStatus.VALIDATING_FILES
    runs.validate_files(context, job)
    assert refreshed(context, job).status is JobStatus.QUEUED


def test_stop_interrupts_the_check_of_a_file_until_the_next_start(context: Context, caller: Principal) -> None:
    file = files.create(context, caller.resource.id, "rows.jsonl", "fine-tune", received.blob(context, [rows.good()]))
    with pytest.raises(Stopped):
        data_reports.check_next(replace(context, blobs=Endless(context.blobs)), after(5))
    assert files.get(context, caller.resource.id, file.id).status_details is None
    assert data_reports.check_next(context)
    assert files.get(context, caller.resource.id, file.id).status_details is not None


def test_service_with_hundreds_of_waiting_jobs_stops_soon(
    context: Context, serving: Serving, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    job = create()
    with context.database.writing() as tx:
        for number in range(999):
            job_rows.insert_job(tx, replace(job, id=f"ftjob-{10_000 + number:032x}"))
    executor.trainer, executor.alive = (lambda run: None), {"fake:1"}
    supervisor = Supervisor(context, executor, serving, tick_s=0.01)
    supervisor.start()
    deadline = time.monotonic() + 60
    while refreshed(context, job).status is not JobStatus.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    began = time.monotonic()
    supervisor.stop()
    assert time.monotonic() - began < STOP_BAR_S
    with context.database.reading() as tx:
        waiting = job_rows.list_in(tx, [JobStatus.VALIDATING_FILES])
    assert len(waiting) > 0, "the stop came before all of them were read"


def test_deployment_whose_engine_stops_with_the_service_is_created_at_the_next_start(
    context: Context, serving: Serving, caller: Principal
) -> None:
    request = deployments.DeploymentRequest("clippy", "smollm2-135m-instruct", None, "Standard", 1)
    deployments.put(context, caller.resource.id, request)

    class Closed:
        def prove(self, model: object) -> None:
            raise NotFound("engine_failed", "The engine process has gone.")

    deployments.create_waiting(context, Closed(), after(1))
    assert deployments.get(context, caller.resource.id, "clippy").state is DeploymentState.CREATING
    deployments.create_waiting(context, serving)
    assert deployments.get(context, caller.resource.id, "clippy").state is DeploymentState.SUCCEEDED


def test_trainer_finishes_its_step_while_the_loops_finish(
    context: Context, serving: Serving, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    supervisor = Supervisor(context, executor, serving, tick_s=0.01)
    at_work(supervisor, executor, create())
    asked: list[list[str]] = []

    def long_pass() -> None:
        deadline = time.monotonic() + 10.0
        while not executor.asked_to_stop and time.monotonic() < deadline:
            time.sleep(0.01)
        asked.append(list(executor.asked_to_stop))

    supervisor._threads.append(threading.Thread(target=long_pass))
    supervisor._threads[0].start()
    supervisor.stop()
    assert (asked, executor.stopped) == ([["fake:1"]], ["fake:1"])


def test_trainer_that_exited_before_the_loops_saw_the_stop_counts_as_stopped(
    context: Context, serving: Serving, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    supervisor, job = Supervisor(context, executor, serving, tick_s=0.01), create()
    at_work(supervisor, executor, job)
    supervisor._stopping.set()
    executor.alive.clear()
    supervisor.tick_runs()
    supervisor.stop()
    with context.database.reading() as tx:
        ends = [attempt.end for attempt in attempt_rows.list_of_job(tx, job.id)]
    assert ends == [AttemptEnd.SERVICE_STOPPED]


def test_run_is_not_started_once_the_service_stops(
    context: Context, serving: Serving, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    job = create()
    supervisor = Supervisor(context, executor, serving, tick_s=0.01)
    supervisor.tick_files()
    runs.validate_files(context, job)
    supervisor.begin_stop()
    supervisor.tick()
    assert executor.started == []
    assert refreshed(context, job).status is JobStatus.QUEUED
