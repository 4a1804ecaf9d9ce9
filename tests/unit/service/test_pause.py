"""Pause and resume by the supervisor: the machine is freed, nothing is lost, every end stays possible."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fakes import BASE, ScriptedExecutor, save_checkpoint, train_well
from job_reads import attempts, messages, refreshed
from luthier.core.errors import Conflict
from luthier.core.models import Job
from luthier.core.states import AttemptEnd, JobStatus
from luthier.core.training.executor_port import Ending
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Metrics, Paused, Started, Succeeded
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.jobs import jobs
from luthier.service.models import models
from luthier.service.models.serving import Serving


def first_part(run: RunDirectory) -> None:
    run.append(Started(at=100.0, n_steps=4, n_examples=10, n_tokens=100, supervised_tokens=40))
    run.append(Metrics(at=101.0, step=1, n_steps=4, train_loss=1.0, train_mean_token_accuracy=0.5))


def leave(run: RunDirectory) -> None:
    """What the trainer does when it finds that it is to pause."""
    folder = run.checkpoints / "step-000001"
    folder.mkdir(parents=True)
    for name in ("adapter_model.safetensors", "adapter_config.json", "probes.json", "meta.json"):
        (folder / name).write_text(f"{name} of step 1")
    run.append(Paused(at=102.0, step=1, folder=folder.name, metrics={"train_loss": 1.0}))


def second_part(run: RunDirectory) -> None:
    for step in (2, 3, 4):
        run.append(Metrics(at=102.0 + step, step=step, n_steps=4, train_loss=1.0, train_mean_token_accuracy=0.5))
    save_checkpoint(run, 4, 110.0)
    run.results.write_text("step\n")
    run.append(Succeeded(at=120.0, trained_tokens=200, seconds=5.0, peak_memory_bytes=1))


@pytest.fixture
def running(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, create: Callable[..., Job]
) -> tuple[Job, RunDirectory]:
    """A job after its first step, its trainer alive."""
    executor.trainer = first_part
    executor.alive = {"fake:1"}
    job = create()
    for _ in range(3):
        supervisor.tick()
    return job, RunDirectory(executor.started[0])


def paused(context: Context, supervisor: Supervisor, executor: ScriptedExecutor, job: Job, run: RunDirectory) -> None:
    jobs.pause(context, job.resource_id, job.id)
    supervisor.tick()
    assert run.pause.exists()
    leave(run)
    executor.alive.clear()
    executor.endings["fake:1"] = Ending(exit_status=0)
    supervisor.tick()
    assert refreshed(context, job).status is JobStatus.PAUSED


def test_pause_waits_for_the_trainer_and_frees_the_machine(
    context: Context,
    supervisor: Supervisor,
    executor: ScriptedExecutor,
    create: Callable[..., Job],
    running: tuple[Job, RunDirectory],
) -> None:
    job, run = running
    other = create()
    assert jobs.pause(context, job.resource_id, job.id).status is JobStatus.PAUSING
    for _ in range(3):
        supervisor.tick()
    assert refreshed(context, job).status is JobStatus.PAUSING
    assert refreshed(context, other).status is JobStatus.QUEUED
    assert (executor.stopped, executor.killed) == ([], [])
    leave(run)
    executor.alive.clear()
    executor.trainer = train_well
    for _ in range(4):
        supervisor.tick()
    assert refreshed(context, job).status is JobStatus.PAUSED
    assert refreshed(context, other).status is JobStatus.SUCCEEDED
    assert [attempt.end for attempt in attempts(context, job)] == [AttemptEnd.PAUSED]
    assert messages(context, job)[-2:] == [
        "Checkpoint created at step 1, where the job was paused.",
        "Job paused after step 1.",
    ]


def test_resume_uses_the_same_directory_and_keeps_the_checkpoint_of_the_pause(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, running: tuple[Job, RunDirectory]
) -> None:
    job, run = running
    paused(context, supervisor, executor, job, run)
    at_pause = f"{BASE}.ft-{job.id.removeprefix('ftjob-')}:ckpt-step-1"
    assert models.get(context, job.resource_id, at_pause).checkpoint
    wishes = []

    def trainer(run: RunDirectory) -> None:
        wishes.append(run.pause.exists())
        second_part(run)

    executor.trainer = trainer
    assert jobs.resume(context, job.resource_id, job.id).status is JobStatus.QUEUED
    for _ in range(4):
        supervisor.tick()
    ended = refreshed(context, job)
    assert ended.status is JobStatus.SUCCEEDED
    assert executor.started == [run.path, run.path]
    assert wishes == [False]
    found, _ = jobs.list_checkpoints(context, job.resource_id, job.id, None, 10)
    assert [checkpoint.model for checkpoint in found] == [ended.fine_tuned_model, at_pause]
    assert [attempt.end for attempt in attempts(context, job)] == [AttemptEnd.PAUSED, AttemptEnd.SUCCEEDED]
    told = messages(context, job)
    assert "Continuing where the job was paused, after step 1, attempt 2." in told
    assert told.count("Job started.") == 1
    assert list(context.runs_folder.iterdir()) == []


def test_pause_after_the_last_step_succeeds(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, running: tuple[Job, RunDirectory]
) -> None:
    job, run = running
    jobs.pause(context, job.resource_id, job.id)
    supervisor.tick()
    second_part(run)
    executor.alive.clear()
    supervisor.tick()
    assert refreshed(context, job).status is JobStatus.SUCCEEDED


def test_trainer_that_dies_while_pausing_is_paused_at_its_last_save(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, running: tuple[Job, RunDirectory]
) -> None:
    job, _ = running
    jobs.pause(context, job.resource_id, job.id)
    executor.alive.clear()
    executor.endings["fake:1"] = Ending(signal=9)
    supervisor.tick()
    assert refreshed(context, job).status is JobStatus.PAUSED
    assert [attempt.end for attempt in attempts(context, job)] == [AttemptEnd.KILLED]
    executor.trainer = second_part
    jobs.resume(context, job.resource_id, job.id)
    for _ in range(3):
        supervisor.tick()
    assert refreshed(context, job).status is JobStatus.SUCCEEDED


def test_pause_outlives_a_stop_of_the_service(
    context: Context,
    supervisor: Supervisor,
    executor: ScriptedExecutor,
    serving: Serving,
    running: tuple[Job, RunDirectory],
) -> None:
    job, _ = running
    jobs.pause(context, job.resource_id, job.id)
    supervisor.stop()
    Supervisor(context, executor, serving, tick_s=0.01).tick()
    assert refreshed(context, job).status is JobStatus.PAUSED
    assert len(executor.started) == 1


@pytest.mark.parametrize("when", ["pausing", "paused"])
def test_cancel_ends_a_pause_and_leaves_no_directory(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, running: tuple[Job, RunDirectory], when: str
) -> None:
    job, run = running
    if when == "paused":
        paused(context, supervisor, executor, job, run)
    else:
        jobs.pause(context, job.resource_id, job.id)
    assert jobs.cancel(context, job.resource_id, job.id).status is JobStatus.CANCELLED
    supervisor.tick()
    assert executor.killed == (["fake:1"] if when == "pausing" else [])
    assert list(context.runs_folder.iterdir()) == []


def test_pause_resets_the_count_of_ends_without_progress(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, running: tuple[Job, RunDirectory]
) -> None:
    job, _ = running
    executor.trainer = lambda run: None
    executor.endings = {f"fake:{number}": Ending(exit_status=1) for number in (1, 3, 4, 5)}
    executor.alive = {"fake:2"}
    for _ in range(2):
        supervisor.tick()
    assert len(executor.started) == 2
    jobs.pause(context, job.resource_id, job.id)
    executor.alive.clear()
    supervisor.tick()
    jobs.resume(context, job.resource_id, job.id)
    for _ in range(20):
        supervisor.tick()
    assert refreshed(context, job).status is JobStatus.FAILED
    assert len(executor.started) == 5


def test_estimate_leaves_out_the_time_in_which_the_job_was_paused(
    context: Context, executor: ScriptedExecutor, serving: Serving, create: Callable[..., Job]
) -> None:
    time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=102)
    held = replace(context, now=lambda: time)
    supervisor = Supervisor(held, executor, serving, tick_s=0.01)
    executor.trainer = first_part
    executor.alive = {"fake:1"}
    job = create()
    for _ in range(3):
        supervisor.tick()
    jobs.pause(held, job.resource_id, job.id)
    executor.alive.clear()
    supervisor.tick()
    assert refreshed(context, job).estimated_finish is None
    time += timedelta(hours=1)
    executor.trainer = lambda run: run.append(
        Metrics(at=3704.0, step=2, n_steps=4, train_loss=1.0, train_mean_token_accuracy=0.5)
    )
    executor.alive = {"fake:2"}
    jobs.resume(held, job.resource_id, job.id)
    for _ in range(2):
        supervisor.tick()
    estimate = refreshed(context, job).estimated_finish
    assert estimate is not None
    assert estimate.timestamp() == 3704 + 4  # two steps took four seconds, and two are left


@pytest.mark.parametrize("state", ["validating_files", "queued", "pausing", "paused", "succeeded"])
def test_only_a_running_job_is_paused(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, create: Callable[..., Job], state: str
) -> None:
    executor.trainer = train_well if state == "succeeded" else first_part
    executor.alive = {"fake:1"} if state != "succeeded" else set()
    job = create()
    for _ in range({"validating_files": 0, "queued": 1, "succeeded": 4}.get(state, 3)):
        supervisor.tick()
    if state in {"pausing", "paused"}:
        jobs.pause(context, job.resource_id, job.id)
    if state == "paused":
        executor.alive.clear()
        supervisor.tick()
    assert refreshed(context, job).status == state
    with pytest.raises(Conflict, match=f"is {state}; only a running job"):
        jobs.pause(context, job.resource_id, job.id)
    if state != "paused":
        with pytest.raises(Conflict, match=f"is {state}; only a paused job"):
            jobs.resume(context, job.resource_id, job.id)


def test_estimate_of_a_resumed_job_leaves_the_pause_out(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, running: tuple[Job, RunDirectory]
) -> None:
    job, run = running
    paused(context, supervisor, executor, job, run)
    executor.alive = {"fake:2"}
    told = []

    def ten_seconds_a_step(run: RunDirectory) -> None:
        begun = attempts(context, job)[-1].started_at
        for number in (1, 2):
            at = begun + timedelta(seconds=10 * number)
            told.append(at)
            metrics = {"step": 1 + number, "n_steps": 4, "train_loss": 1.0, "train_mean_token_accuracy": 0.5}
            run.append(Metrics(at=at.timestamp(), **metrics))

    executor.trainer = ten_seconds_a_step
    jobs.resume(context, job.resource_id, job.id)
    for _ in range(3):
        supervisor.tick()
    assert refreshed(context, job).estimated_finish == told[-1] + timedelta(seconds=10)
