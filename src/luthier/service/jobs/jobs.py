"""Fine-tuning jobs as the user sees them: get, list, cancel, pause, resume, events, checkpoints, attempts."""

import logging
import shutil
from collections.abc import Mapping

from luthier.core.errors import Conflict, NotFound
from luthier.core.models import Attempt, Checkpoint, Event, Job
from luthier.core.states import TERMINAL_JOB_STATUSES, AttemptEnd, EventCode, JobStatus
from luthier.service.context import Context
from luthier.service.jobs import job_events
from luthier.service.models import models
from luthier.store.db import Connection
from luthier.store.queries import attempts, checkpoints, events, jobs

logger = logging.getLogger(__name__)


def get(context: Context, resource_id: str, job_id: str) -> Job:
    """One job of the resource. Raises NotFound, for a job of another resource as well."""
    with context.database.reading() as tx:
        return require(tx, resource_id, job_id)


def list_page(
    context: Context, resource_id: str, after: str | None, limit: int, metadata: Mapping[str, str] | None
) -> tuple[list[Job], bool]:
    """A page of the resource's jobs after the id `after`, newest first, and whether more follow.

    Those that carry every pair of `metadata`; with None those that carry no metadata, with {} all. Raises
    InvalidRequest for an `after` that is none of its jobs.
    """
    with context.database.reading() as tx:
        return jobs.list_page(tx, resource_id, after, limit, metadata)


def list_events(
    context: Context, resource_id: str, job_id: str, after: str | None, limit: int
) -> tuple[list[Event], bool]:
    """A page of a job's events after the id `after`, newest first, and whether more follow.

    Raises NotFound for the job, InvalidRequest for an `after` that is none of its events.
    """
    with context.database.reading() as tx:
        if not jobs.exists(tx, resource_id, job_id):
            raise _not_found(job_id)
        return events.list_page(tx, job_id, after, limit)


def follow_events(
    context: Context, resource_id: str, job_id: str, after: str | None, limit: int
) -> tuple[list[Event], bool]:
    """The events after `after` (None: all), oldest first, and whether they are the last ones: the job has ended.

    Raises NotFound for the job, InvalidRequest for an `after` that is none of its events.
    """
    with context.database.reading() as tx:
        job = require(tx, resource_id, job_id)
        page = events.list_since(tx, job_id, after, limit)
        return page, job.status in TERMINAL_JOB_STATUSES and len(page) < limit


def changed_since(context: Context, newest: int | None) -> tuple[int, set[str]]:
    """The sequence number of the newest event of all jobs, and the ids of the jobs with events after the number
    `newest` (None: no ids). The feed of event streams polls it to know which of them to wake.
    """
    with context.database.reading() as tx:
        latest = events.newest(tx)
        return latest, set() if newest is None or latest == newest else events.jobs_since(tx, newest)


def list_checkpoints(
    context: Context, resource_id: str, job_id: str, after: str | None, limit: int
) -> tuple[list[Checkpoint], bool]:
    """A page of a job's checkpoints, newest first, and whether more follow. Raises as `list_events`."""
    with context.database.reading() as tx:
        require(tx, resource_id, job_id)
        return checkpoints.list_page(tx, job_id, after, limit)


def list_attempts(
    context: Context, resource_id: str, job_id: str, after: str | None, limit: int
) -> tuple[list[Attempt], bool]:
    """A page of a job's attempts, newest first, and whether more follow. Raises as `list_events`."""
    with context.database.reading() as tx:
        require(tx, resource_id, job_id)
        return attempts.list_page(tx, job_id, after, limit)


def cancel(context: Context, resource_id: str, job_id: str) -> Job:
    """Moves an open job to cancelled, with its attempt and an event; the supervisor then kills its process.

    Raises NotFound, and Conflict for an ended job.
    """
    sources = [status for status in JobStatus if status not in TERMINAL_JOB_STATUSES]
    with context.database.writing() as tx:
        job = require(tx, resource_id, job_id)
        if not jobs.move(tx, job_id, sources, JobStatus.CANCELLED, finished_at=context.now()):
            raise Conflict(
                "job_already_ended",
                f"{job_id} has already {job.status}; only a job that has not ended can be cancelled.",
            )
        attempts.close(tx, job_id, context.now(), AttemptEnd.CANCELLED)
        events.insert_events(tx, [job_events.message(context, job_id, EventCode.CANCELLED)])
        logger.info("job cancelled id=%s was=%s", job_id, job.status)
        return require(tx, resource_id, job_id)


def pause(context: Context, resource_id: str, job_id: str) -> Job:
    """Asks a running job to pause after its step: it is pausing, and the supervisor tells the trainer.

    Raises NotFound, and Conflict for a job in any other state.
    """
    with context.database.writing() as tx:
        job = require(tx, resource_id, job_id)
        if not jobs.move(tx, job_id, [JobStatus.RUNNING], JobStatus.PAUSING):
            raise Conflict(
                "job_not_running", f"{job_id} is {job.status}; only a running job can be paused.{_hint(job.status)}"
            )
        events.insert_events(tx, [job_events.message(context, job_id, EventCode.PAUSING)])
        logger.info("job pausing id=%s", job_id)
        return require(tx, resource_id, job_id)


def resume(context: Context, resource_id: str, job_id: str) -> Job:
    """Puts a paused job back into the queue, with an event. Raises NotFound, and Conflict for any other job."""
    with context.database.writing() as tx:
        job = require(tx, resource_id, job_id)
        if not jobs.move(tx, job_id, [JobStatus.PAUSED], JobStatus.QUEUED):
            raise Conflict("job_not_paused", f"{job_id} is {job.status}; only a paused job can be resumed.")
        events.insert_events(tx, [job_events.message(context, job_id, EventCode.RESUMED)])
        logger.info("job resumed id=%s", job_id)
        return require(tx, resource_id, job_id)


def delete(context: Context, resource_id: str, job_id: str) -> list[Checkpoint]:
    """Deletes an ended job with its events, attempts, checkpoints and model, rows and blobs; returns the checkpoints.

    Its files, results.csv among them, are kept: they are the user's. Of a job whose run is not yet removed the
    supervisor deletes the row. Raises NotFound, and Conflict if the job has not ended or a deployment uses its model.
    """
    with context.database.writing() as tx:
        job = require(tx, resource_id, job_id)
        if job.status not in TERMINAL_JOB_STATUSES:
            raise Conflict("job_not_ended", f"{job_id} is {job.status}; cancel it first, then delete it.")
        deleted = checkpoints.list_of_job(tx, job_id)
        models.delete_rows(tx, resource_id, job_id, deleted)
        if job.has_run:
            jobs.hide(tx, job_id)  # its trainer may still run; the supervisor ends it and deletes the row
        else:
            jobs.delete(tx, job_id)
    for checkpoint in deleted:
        models.delete_bytes(context, checkpoint)
    if not job.has_run:
        shutil.rmtree(context.runs_folder / job_id, ignore_errors=True)  # the log of a failed run
    logger.info("job deleted id=%s resource=%s checkpoints=%d", job_id, resource_id, len(deleted))
    return deleted


def _hint(status: JobStatus) -> str:
    """A further sentence, with a space before it, for a job that still waits for its run; empty for others."""
    waits = status in {JobStatus.VALIDATING_FILES, JobStatus.QUEUED}
    return " A waiting job has nothing to save: cancel it, and create it again later." if waits else ""


def require(tx: Connection, resource_id: str, job_id: str) -> Job:
    """The job, unless it is another resource's or deleted. Raises NotFound."""
    job = jobs.get(tx, resource_id, job_id)
    if job is None:
        raise _not_found(job_id)
    return job


def _not_found(job_id: str) -> NotFound:
    return NotFound(
        "job_not_found",
        f"There is no job {job_id!r} here. GET .../fine_tuning/jobs lists the jobs of this resource.",
    )
