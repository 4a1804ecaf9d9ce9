"""Advice of a run as its user reads it, with a deployable name; and a run that stopped early."""

from collections.abc import Callable

import pytest

from fakes import ScriptedExecutor, save_checkpoint, train_well
from job_reads import messages, refreshed
from luthier.core.models import Job
from luthier.core.states import AdviceCode, EventLevel, FilePurpose, JobStatus
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Advice, Succeeded
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.files import files
from luthier.service.jobs import jobs
from luthier.service.models import models


def overfits(run: RunDirectory) -> None:
    """Two checkpoints, of which the first is the better one, in a run that may stop early."""
    if any(isinstance(event, Succeeded) for event, _ in run.tail()):
        return
    save_checkpoint(run, 2, 1.0)
    save_checkpoint(run, 4, 2.0)
    code, best = AdviceCode.OVERFITTING, 2
    run.append(Advice(at=3.0, code=code, step=4, epoch=2, message="Overfitting.", prefer_step=best, prefer_epoch=1))
    run.results.write_text("step\n")
    model_step = best if run.read_spec().early_stop_patience else None
    run.append(Succeeded(at=4.0, model_step=model_step, trained_tokens=200, seconds=5.0, peak_memory_bytes=1))


def run_of(
    patience: int | None, context: Context, supervisor: Supervisor, create: Callable[..., Job]
) -> tuple[Job, list[str]]:
    job = create(validation=True, early_stop_patience=patience)
    for _ in range(5):
        supervisor.tick()
    job = refreshed(context, job)
    assert job.status is JobStatus.SUCCEEDED
    found, _ = jobs.list_checkpoints(context, job.resource_id, job.id, None, 10)
    return job, [checkpoint.model for checkpoint in found]


def test_advice_is_a_warning_that_names_an_existing_model(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    executor.trainer = overfits
    job, names = run_of(None, context, supervisor, create)
    better = f"{job.fine_tuned_model}:ckpt-step-2"
    assert names == [job.fine_tuned_model, better]
    text = f"Overfitting. Prefer the checkpoint of epoch 1: {better}."
    assert text in messages(context, job)
    found, _ = jobs.list_events(context, job.resource_id, job.id, None, 100)
    assert [event.level for event in found if event.message == text] == [EventLevel.WARNING]
    assert models.get(context, job.resource_id, better).checkpoint is not None


def test_job_that_may_stop_early_has_its_best_checkpoint_as_its_model(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    executor.trainer = overfits
    job, names = run_of(1, context, supervisor, create)
    assert names == [f"{job.fine_tuned_model}:ckpt-step-4", job.fine_tuned_model]
    assert job.fine_tuned_model is not None
    chosen = models.get(context, job.resource_id, job.fine_tuned_model).checkpoint
    assert chosen is not None
    assert chosen.step == 2
    assert any("of epoch 1, is kept for the fine-tuned model" in text for text in messages(context, job))


@pytest.mark.parametrize("patience", [None, 3])
def test_spec_has_early_stopping_only_if_it_was_requested(
    context: Context,
    supervisor: Supervisor,
    executor: ScriptedExecutor,
    create: Callable[..., Job],
    patience: int | None,
) -> None:
    seen = []

    def look(run: RunDirectory) -> None:
        seen.append(run.read_spec().early_stop_patience)
        train_well(run)

    executor.trainer = look
    run_of(patience, context, supervisor, create)
    assert seen == [patience]


def test_example_losses_are_a_file_named_by_an_event(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    def train(run: RunDirectory) -> None:
        run.example_losses.write_text("line,tokens\n1,20\n")
        train_well(run)

    executor.trainer = train
    job, _ = run_of(None, context, supervisor, create)
    prefix = "Completed example losses file: "
    [file_id] = [text.removeprefix(prefix) for text in messages(context, job) if text.startswith(prefix)]
    file = files.get(context, job.resource_id, file_id)
    assert (file.filename, file.purpose) == ("example_losses.csv", FilePurpose.FINE_TUNE_RESULTS)
    assert b"".join(context.blobs.open(files.blob_key(file_id))) == b"line,tokens\n1,20\n"
    assert job.result_file != file_id
