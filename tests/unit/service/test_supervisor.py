"""The supervisor through crashes: any kill between two steps ends in one terminal state and no event twice."""

import shutil
from collections.abc import Callable
from dataclasses import replace

import pytest

import rows
from fakes import BASE, Killed, MortalDatabase, ScriptedExecutor, save_checkpoint, ticked, train_well
from job_reads import messages, refreshed
from luthier.core.errors import Conflict
from luthier.core.models import Job
from luthier.core.states import JobStatus
from luthier.core.training.executor_port import Ending
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Failed, Message, Metrics, Started, Succeeded
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.files import files
from luthier.service.jobs import jobs
from luthier.service.jobs.attempts import MAX_ENDS_WITHOUT_PROGRESS
from luthier.service.models import models
from luthier.service.models.serving import Serving


def test_run_directory_contains_data_and_spec(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    told = []
    executor.trainer = lambda run: told.append(
        (run.read_spec(), run.training.read_bytes(), run.validation.read_bytes())
    )
    executor.alive = {"fake:1"}
    create(validation=True)
    for _ in range(3):
        supervisor.tick()
    [(spec, training, validation)] = told
    assert training == validation == rows.good()
    assert (spec.n_epochs, spec.batch_size, spec.seed, spec.has_validation) == (2, 5, 1, True)
    assert spec.learning_rate == pytest.approx(1e-3)
    assert spec.base_folder == context.base_folder(BASE)


def test_run_directory_is_gone_when_the_job_has_ended(
    context: Context, supervisor: Supervisor, create: Callable[..., Job]
) -> None:
    job = create()
    for _ in range(5):
        supervisor.tick()
    assert refreshed(context, job).status is JobStatus.SUCCEEDED
    assert list(context.runs_folder.iterdir()) == []


def test_trainer_that_dies_is_started_again_and_no_event_comes_twice(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    def dies_once(run: RunDirectory) -> None:
        if len(executor.started) == 1:
            run.append(Started(at=1.0, n_steps=4, n_examples=10, n_tokens=100, supervised_tokens=40))
            run.append(Metrics(at=2.0, step=1, n_steps=4, train_loss=1.0, train_mean_token_accuracy=0.5))
            return
        for step in (2, 3, 4):
            run.append(Metrics(at=2.0 + step, step=step, n_steps=4, train_loss=1.0, train_mean_token_accuracy=0.5))
        save_checkpoint(run, 4, 8.0)
        run.results.write_text("step\n")
        run.append(Succeeded(at=20.0, trained_tokens=200, seconds=5.0, peak_memory_bytes=1))

    executor.trainer = dies_once
    job = create()
    for _ in range(8):
        supervisor.tick()
    assert refreshed(context, job).status is JobStatus.SUCCEEDED
    assert len(executor.started) == 2
    told = messages(context, job)
    assert [text for text in told if text.startswith("Step")] == [f"Step {n}: training loss=1.0" for n in (1, 2, 3, 4)]
    assert told.count("Job started.") == 1


def test_trainer_without_any_event_fails_the_job_and_its_log_is_kept(
    context: Context,
    supervisor: Supervisor,
    executor: ScriptedExecutor,
    create: Callable[..., Job],
    caplog: pytest.LogCaptureFixture,
) -> None:
    executor.trainer = lambda run: run.log.write_text("no such library")
    executor.endings = dict.fromkeys(("fake:1", "fake:2", "fake:3"), Ending(exit_status=1))
    job = create()
    for _ in range(20):
        supervisor.tick()
    ended = refreshed(context, job)
    assert ended.status is JobStatus.FAILED
    assert len(executor.started) == MAX_ENDS_WITHOUT_PROGRESS
    assert ended.error is not None
    log = context.runs_folder / job.id / "trainer.log"
    assert str(log) in caplog.text
    assert str(log) not in ended.error.message
    assert [path.name for path in log.parent.iterdir()] == ["trainer.log"]


def test_failed_verdict_is_the_jobs_error(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    executor.trainer = lambda run: run.append(
        Failed(at=1.0, code="too_long", message="Line 3 is too long.", param="training_file")
    )
    job = create()
    for _ in range(4):
        supervisor.tick()
    ended = refreshed(context, job)
    assert ended.error is not None
    assert (ended.status, ended.error.code, ended.error.message) == (
        JobStatus.FAILED,
        "too_long",
        "Line 3 is too long.",
    )


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("write", range(1, 9))
def test_service_killed_around_any_write_ends_the_job_once(
    context: Context,
    serving: Serving,
    executor: ScriptedExecutor,
    create: Callable[..., Job],
    write: int,
    when: str,
) -> None:
    """The service dies just before or just after its k-th write; a fresh supervisor then goes on."""
    job = create()
    mortal = replace(context, database=MortalDatabase(context.database, write, when))
    dying = Supervisor(mortal, executor, serving, tick_s=0.01)
    with pytest.raises(Killed):
        ticked(dying, 8)
    again = Supervisor(context, executor, serving, tick_s=0.01)
    for _ in range(8):
        again.tick()
    ended = refreshed(context, job)
    assert ended.status is JobStatus.SUCCEEDED
    told = messages(context, job)
    for text in ("Job started.", "Job succeeded.", "Step 1: training loss=0.36787944117144233"):
        assert told.count(text) == 1, told
    found, _ = files.list_page(context, job.resource_id, "fine-tune-results", None, 10, False)
    assert [file.id for file in found] == [ended.result_file]


def test_dropped_checkpoints_are_deleted_with_their_blobs_unless_deployed(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    def five_epochs(run: RunDirectory) -> None:
        run.append(Started(at=1.0, n_steps=10, n_examples=10, n_tokens=100, supervised_tokens=40))
        for step in (2, 4, 6, 8, 10):
            dropped = (f"step-{step - 6:06d}",) if step > 6 else ()
            save_checkpoint(run, step, float(step), dropped)
            for folder in dropped:
                shutil.rmtree(run.checkpoints / folder)
        run.results.write_text("step\n")
        run.append(Succeeded(at=20.0, trained_tokens=200, seconds=5.0, peak_memory_bytes=1))

    executor.trainer = five_epochs
    job = create()
    for _ in range(5):
        supervisor.tick()
    found, _ = jobs.list_checkpoints(context, job.resource_id, job.id, None, 10)
    assert [checkpoint.step for checkpoint in found] == [10, 8, 6]
    kept = {path.parent.name for path in (context.runs_folder.parent / "blobs").rglob("meta.json")}
    assert kept == {checkpoint.id for checkpoint in found}


def test_checkpoints_dropped_while_the_service_was_stopped_are_deleted(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    def four_epochs(run: RunDirectory, first: int) -> None:
        for step in range(first, first + 8, 2):
            dropped = (f"step-{step - 6:06d}",) if step > 6 else ()
            save_checkpoint(run, step, float(step), dropped)
            for folder in dropped:
                shutil.rmtree(run.checkpoints / folder)

    def trainer(run: RunDirectory) -> None:
        if not run.events.exists():
            run.append(Started(at=1.0, n_steps=16, n_examples=10, n_tokens=100, supervised_tokens=40))
            four_epochs(run, 2)
            return
        four_epochs(run, 10)  # step 10, whose event drops step 4, is itself dropped before anybody looks
        run.results.write_text("step\n")
        run.append(Succeeded(at=20.0, trained_tokens=200, seconds=5.0, peak_memory_bytes=1))

    executor.trainer = trainer
    job = create()
    for _ in range(12):
        supervisor.tick()
    assert refreshed(context, job).status is JobStatus.SUCCEEDED
    found, _ = jobs.list_checkpoints(context, job.resource_id, job.id, None, 10)
    assert [checkpoint.step for checkpoint in found] == [16, 14, 12]


def test_tuned_model_can_be_tuned_further_from_its_own_adapter(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    first = create()
    for _ in range(5):
        supervisor.tick()
    parents = []

    def trainer(run: RunDirectory) -> None:
        parents.append((run.read_spec().continued, (run.parent / "adapter_model.safetensors").read_text()))
        train_well(run)

    executor.trainer = trainer
    tuned = refreshed(context, first).fine_tuned_model
    assert tuned is not None
    for parent in (tuned, f"{tuned}:ckpt-step-2"):
        job = create(parent)
        for _ in range(5):
            supervisor.tick()
        ended = refreshed(context, job)
        assert ended.status is JobStatus.SUCCEEDED
        assert ended.model == parent
        assert ended.fine_tuned_model == f"{BASE}.ft-{job.id.removeprefix('ftjob-')}"
    assert [text[-1] for continued, text in parents if continued] == ["4", "2"]


def test_file_deleted_while_the_job_waits_fails_it_with_the_reason(
    context: Context, supervisor: Supervisor, create: Callable[..., Job]
) -> None:
    job = create()
    files.delete(context, job.resource_id, job.training_file)
    supervisor.tick()
    ended = refreshed(context, job)
    assert ended.error is not None
    assert (ended.status, ended.error.code) == (JobStatus.FAILED, "file_not_found")


def test_estimate_follows_the_seconds_per_step(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    def halfway(run: RunDirectory) -> None:
        run.append(Started(at=1000.0, n_steps=4, n_examples=10, n_tokens=100, supervised_tokens=40))
        run.append(Metrics(at=1020.0, step=2, n_steps=4, train_loss=1.0, train_mean_token_accuracy=0.5))

    executor.trainer = halfway
    executor.alive = {"fake:1"}
    job = create()
    for _ in range(3):
        supervisor.tick()
    estimate = refreshed(context, job).estimated_finish
    assert estimate is not None
    assert estimate.timestamp() == 1040.0


def test_warning_of_the_trainer_is_an_event_of_that_level(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    executor.trainer = lambda run: run.append(Message(at=1.0, level="warning", message="Rows are uneven."))
    executor.alive = {"fake:1"}
    job = create()
    for _ in range(3):
        supervisor.tick()
    found, _ = jobs.list_events(context, job.resource_id, job.id, None, 1)
    assert (found[0].level, found[0].message) == ("warning", "Rows are uneven.")


def test_ended_job_is_not_cancelled(context: Context, supervisor: Supervisor, create: Callable[..., Job]) -> None:
    job = create()
    for _ in range(5):
        supervisor.tick()
    with pytest.raises(Conflict, match="already succeeded"):
        jobs.cancel(context, job.resource_id, job.id)
    assert models.get(context, job.resource_id, refreshed(context, job).fine_tuned_model or "").checkpoint


def test_event_of_a_step_has_its_metrics_and_not_its_cost(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    step = Metrics(at=2.0, step=1, n_steps=4, train_loss=1.0, train_mean_token_accuracy=0.5, tokens=9, seconds=0.5)
    executor.trainer = lambda run: run.append(step)
    executor.alive = {"fake:1"}
    job = create()
    for _ in range(3):
        supervisor.tick()
    found, _ = jobs.list_events(context, job.resource_id, job.id, None, 1)
    assert found[0].data == {"step": 1, "train_loss": 1.0, "train_mean_token_accuracy": 0.5}
