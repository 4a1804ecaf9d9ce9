"""What a running trainer tells becomes rows: events, checkpoints, the estimate, and in the end the model."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from luthier import rates
from luthier.core import ids
from luthier.core.errors import NoSpace, QuotaExceeded
from luthier.core.models import Checkpoint, Event, File, Job
from luthier.core.states import AttemptEnd, EventLevel, EventType, FilePurpose, FileStatus, JobStatus
from luthier.rates import Rate
from luthier.run_directory import (
    Advice,
    CheckpointSaved,
    Failed,
    Message,
    Metrics,
    Paused,
    RunDirectory,
    RunEvent,
    Started,
    Succeeded,
)
from luthier.service import files, models, quotas, runs
from luthier.service.context import Context
from luthier.service.jobs import early_stop_patience, message
from luthier.service.pricing import Price
from luthier.store import attempts, checkpoints, deployments, events, jobs
from luthier.store import files as file_rows
from luthier.store.db import Connection

logger = logging.getLogger(__name__)

RESULTS_NAME = "results.csv"
EXAMPLE_LOSSES_NAME = "example_losses.csv"
FEW_STEPS = 100
"""A job of at most this many steps shows each of them as an event; a longer one steps 1, 10, 20 ... as Azure does."""


def absorb(context: Context, job: Job) -> Succeeded | Failed | None:
    """Takes in what the trainer told since last time; returns its verdict if there is one.

    Rows and the absorbed offset are written in one transaction. The verdict itself is not absorbed: should we crash
    before the job is ended, it is read again.
    """
    run = runs.directory(context, job)
    verdict: Succeeded | Failed | None = None
    absorbed, started_at, estimate, last_step = job.absorbed_bytes, job.started_at, None, 0
    told: list[Event] = []
    saved: list[Checkpoint] = []
    dropped_folders: list[str] = []
    pace = _begun_again(context, job)
    for event, offset in run.tail(absorbed):
        verdict = event if isinstance(event, Succeeded | Failed) else _over_quota(context, job, event)
        if verdict is not None:
            break
        absorbed = offset
        if isinstance(event, Started):
            started_at = started_at or _time(event.at)
        elif isinstance(event, Metrics):
            last_step = event.step
            estimate = _estimate(event, *(pace or (started_at, 0))) if started_at is not None else None
        elif isinstance(event, CheckpointSaved | Paused):
            saved += _store_checkpoint(context, job, run, event)
            dropped_folders += event.dropped if isinstance(event, CheckpointSaved) else ()
        told += _shown(context, job, event)
    if absorbed == job.absorbed_bytes:
        return verdict
    with context.database.writing() as tx:
        for checkpoint in saved:
            if checkpoints.of_step(tx, job.id, checkpoint.step) is None:
                checkpoints.insert_checkpoint(tx, checkpoint)
        dropped = [gone for name in dropped_folders for gone in _drop(tx, job, name)]
        events.insert_events(tx, told)
        jobs.set_progress(tx, job.id, absorbed, started_at, estimate)
        if last_step:
            attempts.set_last_step(tx, job.id, last_step)
    for checkpoint in dropped:
        models.delete_bytes(context, checkpoint)
    return verdict


def finish(context: Context, job: Job, verdict: Succeeded) -> None:
    """Ends a job well: the results become a file, the last checkpoint (or the best, stopped early) the model."""
    run = runs.directory(context, job)
    tuned = ids.fine_tuned_model(job.base_model, job.id, job.suffix)
    results = _store_file(context, job, run.results, RESULTS_NAME)
    made = [results]
    if run.example_losses.exists():
        made.append(_store_file(context, job, run.example_losses, EXAMPLE_LOSSES_NAME))
    texts = (
        f"Trained {verdict.trained_tokens} tokens in {verdict.seconds:.0f} s, validation and checkpoints included; "
        f"peak memory {verdict.peak_memory_bytes / 1e9:.1f} GB.",
        "Job succeeded.",
        *(f"Completed example losses file: {file.id}" for file in made[1:]),
        f"Completed results file: {results.id}",
        f"Training tokens billed: {verdict.trained_tokens}",
        *([] if context.price is None else [_cost(verdict.trained_tokens, context.price)]),
    )
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
            attempts.close(tx, job.id, _time(verdict.at), AttemptEnd.SUCCEEDED, "has finished")
            for file in made:
                file_rows.insert_file(tx, file)
            events.insert_events(tx, [message(context, job.id, text) for text in texts])
    if not moved:
        for file in made:
            context.blobs.delete(files.blob_key(file.id))
    with suppress(NoSpace):  # then an estimate goes by an older run
        rate = Rate(verdict.trained_tokens, verdict.seconds, verdict.peak_memory_bytes)
        rates.note(context.data_folder, job.base_model, rate)
    logger.info("job ended id=%s status=succeeded moved=%s", job.id, moved)


def _over_quota(context: Context, job: Job, event: RunEvent) -> Failed | None:
    """The verdict on a job that has more to train than its resource may; how much is known as soon as it starts."""
    if not isinstance(event, Started) or job.started_at is not None:
        return None
    try:
        with context.database.reading() as tx:
            quotas.check_job_tokens(tx, job.resource_id, event.n_tokens * (job.hyperparameters.n_epochs or 1))
    except QuotaExceeded as error:
        return Failed(at=event.at, code=error.code, message=error.message, param="training_file")
    return None


def _shown(context: Context, job: Job, event: RunEvent) -> Iterator[Event]:
    """The event of the job, if any, that an event of its run is told as (words: contract section 8)."""
    level, kind, data = EventLevel.INFO, EventType.MESSAGE, None
    match event:
        case Message():
            level, text = EventLevel(event.level), event.message
        case Started():
            text = (
                f"Training on {event.n_examples} examples: {event.n_tokens} tokens an epoch, "
                f"{event.supervised_tokens} of them learned, {event.n_steps} steps."
            )
        case Metrics():
            if event.n_steps > FEW_STEPS and event.step != 1 and event.step % 10 and event.full_valid_loss is None:
                return
            kind, data = EventType.METRICS, {"step": event.step, **event.figures()}
            text = f"Step {event.step}: training loss={event.train_loss!r}"
        case Advice():
            level, text = EventLevel.WARNING, event.message + _preference(job, event)
        case CheckpointSaved():
            text = f"Checkpoint created at step {event.step}, the end of epoch {event.epoch}."
        case Paused():
            text = f"Checkpoint created at step {event.step}, where the job was paused."
        case _:
            return
    yield Event(ids.event_id(context.new_hex()), job.id, _time(event.at), level, kind, text, data)


def _preference(job: Job, advice: Advice) -> str:
    """Which model to take, by the name under which it can be deployed."""
    if advice.prefer_step is None:
        return ""
    if early_stop_patience(job) is not None:
        return f" The best checkpoint so far, of epoch {advice.prefer_epoch}, is kept for the fine-tuned model."
    tuned = ids.fine_tuned_model(job.base_model, job.id, job.suffix)
    name = ids.checkpoint_model(tuned, advice.prefer_step)
    return f" Prefer the checkpoint of epoch {advice.prefer_epoch}: {name}."


def _store_checkpoint(
    context: Context, job: Job, run: RunDirectory, event: CheckpointSaved | Paused
) -> Iterator[Checkpoint]:
    folder = run.checkpoints / event.folder
    if not folder.exists():
        return  # we were away, and the trainer has dropped it for newer ones since
    # The id follows from job and step: a crash between the bytes and the row leaves nothing behind that is not reused.
    checkpoint_id = ids.checkpoint_id(_derived_hex(job, f"checkpoint {event.step}"))
    names = tuple(sorted(path.name for path in folder.iterdir() if path.is_file()))
    for name in names:
        context.blobs.put(models.blob_key(checkpoint_id, name), _read(folder / name))
    tuned = ids.fine_tuned_model(job.base_model, job.id, job.suffix)
    yield Checkpoint(
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


def _drop(tx: Connection, job: Job, folder: str) -> Iterator[Checkpoint]:
    """Takes away the row of a checkpoint that made way for a newer one, unless a deployment serves it."""
    checkpoint = checkpoints.of_step(tx, job.id, int(folder.rpartition("-")[2]))
    if checkpoint is not None and not deployments.is_served(tx, checkpoint.model):
        checkpoints.delete(tx, checkpoint.id)
        yield checkpoint


def _store_file(context: Context, job: Job, path: Path, name: str) -> File:
    """Makes the bytes of a result a file; its row is still to be written."""
    file_id = ids.file_id(_derived_hex(job, name))
    blob = context.blobs.put(files.blob_key(file_id), _read(path))
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


def _derived_hex(job: Job, what: str) -> str:
    return hashlib.sha256(f"{job.id} {what}".encode()).hexdigest()[:32]


def _cost(trained_tokens: int, price: Price) -> str:
    return f"Price of these tokens: {price.of(trained_tokens):,.4f} {price.currency}"


def _begun_again(context: Context, job: Job) -> tuple[datetime, int] | None:
    """When the present attempt began and after which step, if it is not the first: a pause is no work."""
    with context.database.reading() as tx:
        made = attempts.list_of_job(tx, job.id)
    return (made[0].started_at, made[1].last_step) if len(made) > 1 else None


def _estimate(event: Metrics, begun_at: datetime, begun_after: int) -> datetime:
    """When the last step will be done, at the pace of the steps since `begun_at`."""
    elapsed = max(_time(event.at) - begun_at, timedelta(0))
    return _time(event.at) + elapsed / max(event.step - begun_after, 1) * (event.n_steps - event.step)


def _time(unix_s: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=unix_s)


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            yield chunk
