"""One look at a running job: its new events, its verdict, or the end of its trainer."""

import logging
from collections.abc import Callable
from enum import Enum, auto

from luthier.core.errors import Unavailable
from luthier.core.models import Job, JobError
from luthier.core.states import AttemptEnd, JobStatus, RunState
from luthier.core.training.executor_port import Executor
from luthier.run_directory.run_events import Failed, Succeeded
from luthier.service.context import Context
from luthier.service.jobs import attempts, progress, runs
from luthier.store.queries import jobs

logger = logging.getLogger(__name__)

OCCUPYING = frozenset({JobStatus.RUNNING, JobStatus.PAUSING})
"""The states in which a job has its place on a node."""


class Followed(Enum):
    """What a look has found. A job that is out of reach still has its place on a node, and nothing is known of it."""

    GOES_ON = auto()
    OUT_OF_REACH = auto()
    WAITS = auto()
    """It has no process, and is to have another one later."""
    TO_START = auto()
    """It has no process, and is to have one now."""
    ENDED = auto()
    """It has left its place: ended, or paused."""


def follow(context: Context, executor: Executor, job: Job, stopping: Callable[[], bool]) -> Followed:
    """Absorbs a running job's new events; ends it by its verdict, ends its attempt, or asks its trainer to pause.

    Once the service stops no attempt is ended: the trainer exited because it was asked to, and the stop records that.
    """
    # The state first, then the events: all that a run wrote before it exited is then read.
    state = _look(context, executor, job)
    match progress.absorb(context, job):
        case Succeeded() as verdict:
            progress.finish(context, job, verdict)
            return Followed.ENDED
        case Failed() as verdict:
            runs.fail(context, job, JobError(verdict.code, verdict.message, verdict.param))
            return Followed.ENDED
        case None if state is RunState.GONE and stopping():
            return Followed.WAITS
        case None if state is RunState.GONE:
            return _recover(context, executor, job)
        case None if job.status is JobStatus.PAUSING:
            runs.ask_to_pause(context, job)
    return Followed.OUT_OF_REACH if state is RunState.UNKNOWN else Followed.GOES_ON


def _look(context: Context, executor: Executor, job: Job) -> RunState:
    """The state of the job's process, its directory brought up to date. UNKNOWN where the executor does not answer: a
    run that cannot be seen, or whose last events cannot be had yet, has not ended.
    """
    if job.handle is None:
        return RunState.GONE
    try:
        state = executor.look(job.handle)
        executor.sync(context.runs_folder / job.id, job.handle)
    except Unavailable:
        return RunState.UNKNOWN
    return state


def _recover(context: Context, executor: Executor, job: Job) -> Followed:
    """Recovers a run without process and verdict: finds its process, or waits, or fails the job, or says that another
    attempt may start.
    """
    run = runs.directory(context, job)
    if (handle := executor.find(run.path, attempts.current_number(context, job))) is not None:
        # The service died between starting it and storing its handle; or it was started by hand.
        with context.database.writing() as tx:
            jobs.set_handle(tx, job.id, handle)
        return Followed.GOES_ON
    with context.database.reading() as tx:
        fresh = jobs.get(tx, job.resource_id, job.id)
    if fresh is None or fresh.status not in OCCUPYING:
        return Followed.ENDED
    if fresh.handle is not None:
        process = executor.ending(fresh.handle)
        end = attempts.end_without_verdict(process)
        if fresh.status is JobStatus.PAUSING and end in {AttemptEnd.STOPPED, AttemptEnd.VANISHED}:
            end = AttemptEnd.PAUSED
        attempts.end_attempt(context, job, end, process)
    if fresh.status is JobStatus.PAUSING:
        runs.set_paused(context, job)
        return Followed.ENDED
    failed = attempts.without_progress(context, job)
    if attempts.are_too_many(failed):
        logger.error("job given up id=%s attempts=%d log=%s", job.id, len(failed), run.log)
        runs.fail(context, job, attempts.give_up_error(failed))
        return Followed.ENDED
    return Followed.TO_START if attempts.is_retry_due(failed, context.now()) else Followed.WAITS
