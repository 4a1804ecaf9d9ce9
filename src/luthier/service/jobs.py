"""Fine-tuning jobs as the user sees them: create, get, list, cancel, pause, resume, events, checkpoints, attempts."""

import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass

from luthier.core import hyperparameters, ids
from luthier.core.errors import Conflict, Forbidden, InvalidRequest, NotFound
from luthier.core.hyperparameters import Hyperparameters
from luthier.core.models import Attempt, Checkpoint, Event, Job
from luthier.core.states import TERMINAL_JOB_STATUSES, AttemptEnd, EventLevel, EventType, JobStatus, Method
from luthier.service import files, models, quotas, specs
from luthier.service.context import Context
from luthier.store import attempts, checkpoints, events, jobs
from luthier.store import files as file_rows
from luthier.store.db import Connection

logger = logging.getLogger(__name__)

_SUFFIX = re.compile(r"[A-Za-z0-9_-]+")
MAX_SEED = 2**31 - 1
EARLY_STOPPING = "early_stopping"
"""Among a job's extras: {"patience": epochs}."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a caller asks for. `max_suffix` is the dialect's limit in characters."""

    model: str
    training_file: str
    validation_file: str | None
    hyperparameters: Hyperparameters
    method: Method
    method_sent: bool
    seed: int | None
    suffix: str | None
    max_suffix: int
    extras: Mapping[str, object]
    notes: tuple[str, ...] = ()
    """What of the request changes nothing here, in words for the job's first events."""


def create(context: Context, resource_id: str, request: JobRequest) -> Job:
    """Writes the job and its first events; the supervisor does the rest. Raises InvalidRequest."""
    hyperparameters.check(request.hyperparameters)
    _check_suffix(request.suffix, request.max_suffix)
    if request.seed is not None and not 0 <= request.seed <= MAX_SEED:
        raise InvalidRequest("invalid_seed", f"seed is {request.seed}; it must be from 0 to {MAX_SEED}.", "seed")
    if EARLY_STOPPING in request.extras and request.validation_file is None:
        raise InvalidRequest(
            "early_stopping_needs_validation",
            f"{EARLY_STOPPING} looks at the validation loss, and the job has no validation_file. Give one, or leave "
            f"{EARLY_STOPPING} out.",
            EARLY_STOPPING,
        )
    with context.database.writing() as tx:
        model = _tunable(context, tx, resource_id, request.model)
        specs.check_method(model.base, request.method)
        _check_file(context, tx, resource_id, request.training_file, "training_file")
        _check_file(context, tx, resource_id, request.validation_file, "validation_file")
        job = Job(
            id=ids.job_id(context.new_hex()),
            resource_id=resource_id,
            status=JobStatus.VALIDATING_FILES,
            base_model=model.base.name,
            requested_model=request.model,
            parent_model=model.checkpoint.model if model.checkpoint else None,
            training_file=request.training_file,
            validation_file=request.validation_file,
            hyperparameters=request.hyperparameters,
            method=request.method,
            method_sent=request.method_sent,
            seed=request.seed if request.seed is not None else context.new_seed(),
            suffix=request.suffix or None,
            extras=request.extras,
            created_at=context.now(),
        )
        quotas.admit_job(tx, resource_id)
        jobs.insert_job(tx, job)
        told = [_weights_event(context, job, model), *_integration_events(context, job)]
        events.insert_events(tx, told + [message(context, job.id, text) for text in request.notes])
    logger.info("job created id=%s resource=%s base=%s", job.id, resource_id, job.base_model)
    return job


def get(context: Context, resource_id: str, job_id: str) -> Job:
    with context.database.reading() as tx:
        return _require(tx, resource_id, job_id)


def list_page(
    context: Context, resource_id: str, after: str | None, limit: int, metadata: Mapping[str, str] | None
) -> tuple[list[Job], bool]:
    """Jobs that carry every pair of `metadata`; with None those that carry no metadata."""
    with context.database.reading() as tx:
        return jobs.list_page(tx, resource_id, after, limit, metadata)


def list_events(
    context: Context, resource_id: str, job_id: str, after: str | None, limit: int
) -> tuple[list[Event], bool]:
    with context.database.reading() as tx:
        if not jobs.exists(tx, resource_id, job_id):
            raise _not_found(job_id)
        return events.list_page(tx, job_id, after, limit)


def follow_events(
    context: Context, resource_id: str, job_id: str, after: str | None, limit: int
) -> tuple[list[Event], bool]:
    """The events that follow `after`, oldest first, and whether none will come after them: the job has ended."""
    with context.database.reading() as tx:
        job = _require(tx, resource_id, job_id)
        found = events.list_since(tx, job_id, after, limit)
        return found, job.status in TERMINAL_JOB_STATUSES and len(found) < limit


def list_checkpoints(
    context: Context, resource_id: str, job_id: str, after: str | None, limit: int
) -> tuple[list[Checkpoint], bool]:
    with context.database.reading() as tx:
        _require(tx, resource_id, job_id)
        return checkpoints.list_page(tx, job_id, after, limit)


def list_attempts(
    context: Context, resource_id: str, job_id: str, after: str | None, limit: int
) -> tuple[list[Attempt], bool]:
    with context.database.reading() as tx:
        _require(tx, resource_id, job_id)
        return attempts.list_page(tx, job_id, after, limit)


def early_stop_patience(job: Job) -> int | None:
    """After how many epochs without a better validation loss the job is to end, if it is."""
    asked = job.extras.get(EARLY_STOPPING)
    return int(asked["patience"]) if isinstance(asked, Mapping) else None


def cancel(context: Context, resource_id: str, job_id: str) -> Job:
    """Ends an open job at once; the supervisor stops its process after. Raises Conflict for an ended job."""
    sources = [status for status in JobStatus if status not in TERMINAL_JOB_STATUSES]
    with context.database.writing() as tx:
        job = _require(tx, resource_id, job_id)
        if not jobs.move(tx, job_id, sources, JobStatus.CANCELLED, finished_at=context.now()):
            raise Conflict(
                "job_already_ended",
                f"{job_id} has already {job.status}; only a job that has not ended can be cancelled.",
            )
        attempts.close(tx, job_id, context.now(), AttemptEnd.CANCELLED, "was ended: the job was cancelled")
        events.insert_events(tx, [message(context, job_id, "Job cancelled.")])
        logger.info("job cancelled id=%s was=%s", job_id, job.status)
        return _require(tx, resource_id, job_id)


def pause(context: Context, resource_id: str, job_id: str) -> Job:
    """Asks a running job to leave after its step; the supervisor has it paused then. Raises Conflict for any other."""
    with context.database.writing() as tx:
        job = _require(tx, resource_id, job_id)
        if not jobs.move(tx, job_id, [JobStatus.RUNNING], JobStatus.PAUSING):
            raise Conflict(
                "job_not_running", f"{job_id} is {job.status}; only a running job can be paused.{_instead(job.status)}"
            )
        text = "Pausing: the step under way is finished, saved, and made a checkpoint."
        events.insert_events(tx, [message(context, job_id, text)])
        logger.info("job pausing id=%s", job_id)
        return _require(tx, resource_id, job_id)


def resume(context: Context, resource_id: str, job_id: str) -> Job:
    """Puts a paused job back among those that wait. Raises Conflict for any other."""
    with context.database.writing() as tx:
        job = _require(tx, resource_id, job_id)
        if not jobs.move(tx, job_id, [JobStatus.PAUSED], JobStatus.QUEUED):
            raise Conflict("job_not_paused", f"{job_id} is {job.status}; only a paused job can be resumed.")
        text = "Job resumed. Waiting for jobs ahead to complete."
        events.insert_events(tx, [message(context, job_id, text)])
        logger.info("job resumed id=%s", job_id)
        return _require(tx, resource_id, job_id)


def delete(context: Context, resource_id: str, job_id: str) -> list[Checkpoint]:
    """Deletes an ended job with its events, attempts, checkpoints and model; returns the checkpoints that are gone.

    Its files stay, results.csv among them: they are the user's. Raises Conflict for a job that has not ended, and
    while a deployment uses its model.
    """
    with context.database.writing() as tx:
        job = _require(tx, resource_id, job_id)
        if job.status not in TERMINAL_JOB_STATUSES:
            raise Conflict("job_not_ended", f"{job_id} is {job.status}; cancel it first, then delete it.")
        doomed = checkpoints.list_of_job(tx, job_id)
        models.delete_rows(tx, resource_id, job_id, doomed)
        if job.has_run:
            jobs.hide(tx, job_id)  # its trainer may still be there; whoever clears that away deletes the row
        else:
            jobs.delete(tx, job_id)
    for checkpoint in doomed:
        models.delete_bytes(context, checkpoint)
    if not job.has_run:
        shutil.rmtree(context.runs_folder / job_id, ignore_errors=True)  # the log of a failed run
    logger.info("job deleted id=%s resource=%s checkpoints=%d", job_id, resource_id, len(doomed))
    return doomed


def _instead(status: JobStatus) -> str:
    waits = status in {JobStatus.VALIDATING_FILES, JobStatus.QUEUED}
    return " One that waits has nothing to save: cancel it, and create it again later." if waits else ""


def message(context: Context, job_id: str, text: str, level: EventLevel = EventLevel.INFO) -> Event:
    """An event of ours, now. The text never carries text of the user's rows."""
    return Event(ids.event_id(context.new_hex()), job_id, context.now(), level, EventType.MESSAGE, text)


def _require(tx: Connection, resource_id: str, job_id: str) -> Job:
    job = jobs.get(tx, resource_id, job_id)
    if job is None:
        raise _not_found(job_id)
    return job


def _not_found(job_id: str) -> NotFound:
    return NotFound(
        "job_not_found",
        f"There is no job {job_id!r} here. GET .../fine_tuning/jobs lists the jobs of this resource.",
    )


def _tunable(context: Context, tx: Connection, resource_id: str, name: str) -> models.Model:
    model = models.resolve(context, tx, resource_id, name)
    if model is None:
        known = ", ".join(entry for entry in context.catalog.entries if context.is_ready(entry)) or "none yet"
        raise InvalidRequest(
            "model_not_found",
            f"There is no model {name!r} to fine-tune. Base models ready on this machine: {known}; fine-tuned models "
            "and checkpoints of this resource can be tuned further. GET .../models lists all.",
            "model",
        )
    if not model.ready:
        raise InvalidRequest(
            "model_not_ready",
            f"The weights of {model.base.name} are not on this machine yet. Run: luthier models pull {model.base.name}",
            "model",
        )
    if model.checkpoint is not None and model.checkpoint.resource_id != resource_id:
        raise Forbidden(
            "model_not_own",
            f"{name} is shared with this resource to be deployed and called, not to be tuned further.",
            "model",
        )
    return model


def _check_file(context: Context, tx: Connection, resource_id: str, file_id: str | None, param: str) -> None:
    if file_id is None:
        return
    file = file_rows.get(tx, resource_id, file_id, context.now())
    if file is None:
        error = files.not_found(file_id, param)
        raise InvalidRequest(error.code, f"{param}: {error.message}", param)
    files.check_trainable(file, param)


def _check_suffix(suffix: str | None, max_characters: int) -> None:
    if not suffix:
        return
    if len(suffix) > max_characters:
        raise InvalidRequest(
            "suffix_too_long",
            f"suffix has {len(suffix)} characters; at most {max_characters} are allowed. Shorten it.",
            "suffix",
        )
    if not _SUFFIX.fullmatch(suffix):
        raise InvalidRequest(
            "invalid_suffix",
            "suffix may hold letters, digits, '-' and '_' alone: it becomes part of a model name.",
            "suffix",
        )


def _integration_events(context: Context, job: Job) -> list[Event]:
    if not job.extras.get("integrations"):
        return []
    text = (
        "The integrations are kept with the job and shown; nothing is sent to Weights & Biases from here. "
        "`WandbLogger.sync` on your side reads this job's results and sends them."
    )
    return [message(context, job.id, text)]


def _weights_event(context: Context, job: Job, model: models.Model) -> Event:
    asked = job.requested_model
    weights = f"{model.base.title} ({model.base.parameters} parameters, {model.base.licence})"
    if job.parent_model:
        text = f"Going on from {job.parent_model}, which was tuned on {weights}."
    elif asked.lower() == job.base_model:
        text = f"Base model {job.base_model}: the weights are {weights}."
    else:
        text = f"{asked} is an alias for {job.base_model} here: the weights are {weights}, not those of a hosted model."
    return message(context, job.id, text)
