"""The start of a claimed job's next attempt, the stop of its trainer with the service, and what is left at its end."""

import logging
from collections.abc import Callable
from contextlib import suppress

from luthier.core.errors import Conflict, NoSpace
from luthier.core.models import Job, JobError
from luthier.core.states import AttemptEnd, JobStatus
from luthier.core.training.executor_port import Executor, RunNeeds
from luthier.run_directory.run_directory import RunDirectory
from luthier.service.background.run_control.run_following import OCCUPYING
from luthier.service.context import Context
from luthier.service.jobs import attempts, progress, runs
from luthier.store.queries import jobs

logger = logging.getLogger(__name__)


def start(
    context: Context,
    executor: Executor,
    job: Job,
    needs: RunNeeds,
    write_directory: Callable[[Context, Job], RunDirectory],
    stopping: Callable[[], bool],
) -> None:
    """Has the run directory written and starts an attempt; fails the job for a deleted file or a full disk.

    A kill at any point leaves a running job without a handle, which a later pass finds or starts again.
    """
    try:
        run = write_directory(context, job)
    except FileNotFoundError as error:
        logger.info("run not started job=%s %s", job.id, error)
        text = "A file of this job was deleted while it waited. Upload it again and create a new job."
        runs.fail(context, job, JobError("file_not_found", text))
        return
    except NoSpace as error:
        runs.fail(context, job, JobError(error.code, error.message))
        return
    if stopping() or not _is_open(context, job):
        return  # the next start continues it: a running job without a process; a cancelled one needs none
    number = attempts.start_attempt(context, job)
    handle = executor.start(run.path, number, needs)
    with context.database.writing() as tx:
        jobs.set_handle(tx, job.id, handle)
    logger.info("run started job=%s handle=%s", job.id, handle)


def ask_to_exit(executor: Executor, job: Job) -> None:
    """Asks the job's trainer to exit after its step; does not wait for it."""
    assert job.handle is not None
    executor.ask_to_stop(job.handle)


def stop(context: Context, executor: Executor, job: Job) -> None:
    """Stops a trainer after its step and ends its attempt, so that the next start of the service resumes the run.

    A verdict that it left is read at that start.
    """
    assert job.handle is not None
    executor.stop(job.handle)
    if progress.absorb(context, job) is None and job.status in OCCUPYING:
        attempts.end_attempt(context, job, AttemptEnd.SERVICE_STOPPED)
    logger.info("run stopped for the next start job=%s", job.id)


def release(context: Context, executor: Executor, job: Job) -> None:
    """Ends the process of an ended job, absorbs its last events, removes its run directory, and records that."""
    run = runs.directory(context, job)
    handle = job.handle or executor.find(run.path, attempts.current_number(context, job))
    if handle is not None and job.status is JobStatus.CANCELLED:
        executor.kill(handle)  # nothing of it is kept: no step is worth waiting for
    elif handle is not None:
        executor.stop(handle)
    with suppress(Conflict):  # a damaged log is why the job failed, and nothing of it is needed
        if handle is not None:
            executor.sync(run.path, handle)
        if not job.is_deleted:
            progress.absorb(context, job)
    runs.remove_files(context, job)
    executor.discard(run.path)
    runs.set_released(context, job)
    logger.info("run removed job=%s", job.id)


def _is_open(context: Context, job: Job) -> bool:
    """Whether the job still has its place: not if it was cancelled while its directory was written."""
    with context.database.reading() as tx:
        fresh = jobs.by_id(tx, job.id)
    return fresh is not None and fresh.status in OCCUPYING
