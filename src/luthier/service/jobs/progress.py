"""The event log of a running trainer becomes rows: events, checkpoints, the estimate, and at the end the model.

The supervisor calls it on each tick; a trainer itself knows no database.
"""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path

from luthier.atomic_io import read_chunks
from luthier.core import ids
from luthier.core.errors import QuotaExceeded
from luthier.core.models import Checkpoint, Event, File, Job
from luthier.core.states import AttemptEnd, EventCode, EventLevel, FilePurpose, FileStatus, JobStatus
from luthier.run_directory.run_directory import RESULTS_FILE, RunDirectory
from luthier.run_directory.run_events import (
    Advice,
    CheckpointSaved,
    Failed,
    Message,
    Metrics,
    Paused,
    RunEvent,
    Saved,
    Started,
    Succeeded,
)
from luthier.service.context import Context
from luthier.service.files import files, training_estimate
from luthier.service.jobs import job_events, runs
from luthier.service.models import models
from luthier.service.tenants import quotas
from luthier.store.db import Connection
from luthier.store.queries import attempts, checkpoints, deployments, events, jobs
from luthier.store.queries import files as file_rows

logger = logging.getLogger(__name__)

EXAMPLE_LOSSES_NAME = "example_losses.csv"
FEW_STEPS = 100
"""A job of at most this many steps has an event for each; a longer one for steps 1, 10, 20 ... as on Azure."""


def absorb(context: Context, job: Job) -> Succeeded | Failed | None:
    """Absorbs the events that the trainer has written since the last call; returns its verdict, or None so far.

    The files of a checkpoint are stored as blobs first; rows and the absorbed offset in bytes are written in one
    transaction. The verdict itself is not absorbed: after a crash before the job is ended it is read again. A job with
    more tokens than its quota gets the verdict Failed. Raises Conflict for a damaged event log.
    """
    run = runs.directory(context, job)
    verdict: Succeeded | Failed | None = None
    absorbed, started_at, estimate, last_step, saved_step = job.absorbed_bytes, job.started_at, None, 0, 0
    new_events: list[Event] = []
    new_steps: list[Metrics] = []
    new_checkpoints: list[Checkpoint] = []
    dropped_folders: list[str] = []
    resumed = cache(partial(_resumed_from, context, job))  # read only where there is a step
    for event, offset in run.tail(absorbed):
        verdict = event if isinstance(event, Succeeded | Failed) else _over_quota(context, job, event)
        if verdict is not None:
            break
        absorbed = offset
        if isinstance(event, Started):
            started_at = started_at or _time(event.at)
        elif isinstance(event, Metrics):
            last_step = event.step
            new_steps.append(event)
            estimate = _estimate(event, *(resumed() or (started_at, 0))) if started_at is not None else None
        elif isinstance(event, Saved):
            saved_step = event.step
        elif isinstance(event, CheckpointSaved | Paused):
            if (stored := _store_checkpoint(context, job, run, event)) is not None:
                new_checkpoints.append(stored)
            dropped_folders += event.dropped if isinstance(event, CheckpointSaved) else ()
        new_events += _job_events(context, job, event)
    if absorbed == job.absorbed_bytes:
        return verdict
    with context.database.writing() as tx:
        for checkpoint in new_checkpoints:
            if checkpoints.of_step(tx, job.id, checkpoint.step) is None:
                checkpoints.insert_checkpoint(tx, checkpoint)
        dropped = [gone for name in dropped_folders if (gone := _drop(tx, job, name)) is not None]
        events.insert_events(tx, new_events)
        jobs.set_progress(tx, job.id, absorbed, started_at, estimate)
        if last_step:
            attempts.set_last_step(tx, job.id, last_step)
        if saved_step:
            attempts.set_saved_step(tx, job.id, saved_step)
    _count_steps(context, new_steps)
    for checkpoint in dropped:
        models.delete_bytes(context, checkpoint)
    return verdict


def _count_steps(context: Context, steps: Sequence[Metrics]) -> None:
    """Counts steps for the metrics, once their rows are written; those of older trainers have no seconds."""
    for step in steps if context.observe_step is not None else ():
        if step.seconds is not None:
            assert context.observe_step is not None
            context.observe_step(step.seconds, step.tokens or 0)


def finish(context: Context, job: Job, verdict: Succeeded) -> None:
    """Moves a job to succeeded: results become files, the last checkpoint (or the best, stopped early) the model.

    If the job was cancelled meanwhile, the stored results are deleted again. The run's throughput is recorded.
    """
    run = runs.directory(context, job)
    tuned = ids.fine_tuned_model(job.base_model, job.id, job.suffix)
    results = _store_file(context, job, run.results, RESULTS_FILE)
    result_files = [results]
    if run.example_losses.exists():
        result_files.append(_store_file(context, job, run.example_losses, EXAMPLE_LOSSES_NAME))
    with context.database.writing() as tx:
        moved = jobs.move(
            tx,
            job.id,
            [JobStatus.RUNNING, JobStatus.PAUSING],
            JobStatus.SUCCEEDED,
            finished_at=_time(verdict.at),
            fine_tuned_model=tuned,
            result_file=results.id,
            trained_tokens=verdict.trained_tokens,
            estimated_finish=_time(verdict.at),
        )
        if moved:
            saved = checkpoints.list_of_job(tx, job.id)
            chosen = next((one for one in saved if one.step == verdict.model_step), saved[-1])
            checkpoints.rename(tx, chosen.id, tuned)
            attempts.close(tx, job.id, _time(verdict.at), AttemptEnd.SUCCEEDED)
            for file in result_files:
                file_rows.insert_file(tx, file)
            events.insert_events(tx, _final_events(context, job, verdict, result_files))
    if not moved:
        for file in result_files:
            context.blobs.delete(files.blob_key(file.id))
    training_estimate.record_throughput(context.data_folder, run, verdict)
    logger.info("job ended id=%s status=succeeded moved=%s", job.id, moved)


def _final_events(context: Context, job: Job, verdict: Succeeded, result_files: Sequence[File]) -> list[Event]:
    """The last events of a job that has succeeded, not inserted; with the price if the operator has set one."""
    tokens = verdict.trained_tokens
    computed: dict[str, object] = {
        "trained_tokens": tokens,
        "seconds": verdict.seconds,
        "peak_memory_bytes": verdict.peak_memory_bytes,
    }
    results, *losses = result_files
    coded: list[tuple[EventCode, Mapping[str, object]]] = [
        (EventCode.COMPUTED, computed),
        (EventCode.SUCCEEDED, {}),
        *[(EventCode.EXAMPLE_LOSSES_FILE, {"file_id": file.id}) for file in losses],
        (EventCode.RESULTS_FILE, {"file_id": results.id}),
        (EventCode.BILLED_TOKENS, {"trained_tokens": tokens}),
    ]
    if (price := context.price) is not None:
        coded.append((EventCode.PRICE, {"price": price.cost(tokens), "currency": price.currency}))
    return [job_events.message(context, job.id, code, values) for code, values in coded]


def _over_quota(context: Context, job: Job, event: RunEvent) -> Failed | None:
    """The verdict on a job with more tokens, in all epochs, than its resource may train; None for any other event than
    its first Started, which tells the number.
    """
    if not isinstance(event, Started) or job.started_at is not None:
        return None
    try:
        with context.database.reading() as tx:
            quotas.check_job_tokens(tx, job.resource_id, event.n_tokens * (job.hyperparameters.n_epochs or 1))
    except QuotaExceeded as error:
        return Failed(at=event.at, code=error.code, message=error.message, param="training_file")
    return None


def _job_events(context: Context, job: Job, event: RunEvent) -> Iterator[Event]:
    """The event of the job, if any, for an event of its run, not inserted (texts: wire-contract.md section 8)."""
    level, values = EventLevel.INFO, dict[str, object]()
    match event:
        case Message():
            level, code, values = EventLevel(event.level), EventCode.TRAINER_MESSAGE, {"text": event.message}
        case Started():
            code, values = EventCode.TRAINING, event.model_dump(exclude={"kind", "at"})
        case Metrics():
            if (
                event.n_steps <= FEW_STEPS
                or event.step == 1
                or event.step % 10 == 0
                or event.full_valid_loss is not None
            ):
                figures = event.figures() | event.course()
                yield job_events.metrics(context, job.id, _time(event.at), event.step, figures)
            return
        case Advice():
            level, code, values = EventLevel.WARNING, EventCode.ADVICE, _advice(job, event)
        case CheckpointSaved():
            code, values = EventCode.CHECKPOINT, {"step": event.step, "epoch": event.epoch}
        case Paused():
            code, values = EventCode.CHECKPOINT, {"step": event.step, "epoch": None}
        case _:
            return
    yield job_events.message(context, job.id, code, values, level=level, at=_time(event.at))


def _advice(job: Job, advice: Advice) -> dict[str, object]:
    """The values of an advice event. `prefer_model` is the model name of the checkpoint to prefer, None if that becomes
    the fine-tuned model or there is none.
    """
    tuned = ids.fine_tuned_model(job.base_model, job.id, job.suffix)
    step = advice.prefer_step if job.early_stop_patience is None else None
    return {
        "advice": str(advice.code),
        "step": advice.step,
        "epoch": advice.epoch,
        "text": advice.message,
        "prefer_epoch": advice.prefer_epoch,
        "prefer_model": None if step is None else ids.checkpoint_model(tuned, step),
    }


def _store_checkpoint(
    context: Context, job: Job, run: RunDirectory, event: CheckpointSaved | Paused
) -> Checkpoint | None:
    """Stores a checkpoint's files as blobs, and returns its row for the caller to insert; None without its folder."""
    folder = run.checkpoints / event.folder
    if not folder.exists():
        return None  # the service was stopped, and the trainer has dropped it for newer ones since
    # The id is derived from job and step: after a crash between blob and row the same blobs are written again.
    checkpoint_id = ids.checkpoint_id(_derived_hex(job, f"checkpoint {event.step}"))
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_file()))
    for name in names:
        context.blobs.put(models.blob_key(checkpoint_id, name), read_chunks(folder / name))
    tuned = ids.fine_tuned_model(job.base_model, job.id, job.suffix)
    return Checkpoint(
        id=checkpoint_id,
        resource_id=job.resource_id,
        job_id=job.id,
        model=ids.checkpoint_model(tuned, event.step),
        base_model=job.base_model,
        step=event.step,
        metrics=event.metrics,
        files=names,
        created_at=_time(event.at),
    )


def _drop(tx: Connection, job: Job, folder: str) -> Checkpoint | None:
    """Deletes the row of a checkpoint that the trainer has dropped, and returns it: its blobs are the caller's to
    delete. None, and nothing deleted, if it has no row or a deployment serves it.
    """
    checkpoint = checkpoints.of_step(tx, job.id, int(folder.rpartition("-")[2]))
    if checkpoint is None or deployments.is_served(tx, checkpoint.model):
        return None
    checkpoints.delete(tx, checkpoint.id)
    return checkpoint


def _store_file(context: Context, job: Job, path: Path, name: str) -> File:
    """Stores a result as the blob of a file, under an id derived from job and name; the caller inserts the row."""
    file_id = ids.file_id(_derived_hex(job, name))
    blob = context.blobs.put(files.blob_key(file_id), read_chunks(path))
    return File(
        id=file_id,
        resource_id=job.resource_id,
        filename=name,
        purpose=FilePurpose.FINE_TUNE_RESULTS,
        bytes=blob.bytes,
        sha256=blob.sha256,
        status=FileStatus.PROCESSED,
        status_details=None,
        created_at=context.now(),
    )


def _derived_hex(job: Job, name: str) -> str:
    """32 hex digits that are the same at each call: work that is repeated after a crash writes the same blobs again."""
    return hashlib.sha256(f"{job.id} {name}".encode()).hexdigest()[:32]


def _resumed_from(context: Context, job: Job) -> tuple[datetime, int] | None:
    """When the present attempt started, and after which step; None for the first one. A pause is no work."""
    with context.database.reading() as tx:
        newest_first = attempts.list_of_job(tx, job.id)
    return (newest_first[0].started_at, newest_first[1].last_step) if len(newest_first) > 1 else None


def _estimate(event: Metrics, start_at: datetime, start_step: int) -> datetime:
    """When the last step will be done, at the seconds per step since `start_at`, when `start_step` steps were done."""
    elapsed = max(_time(event.at) - start_at, timedelta(0))
    return _time(event.at) + elapsed / max(event.step - start_step, 1) * (event.n_steps - event.step)


def _time(unix_s: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=unix_s)
