"""Attempts, the starts of a job's trainer process: their rows, how one ended, and when another one is worth it."""

import logging
import signal
from dataclasses import replace
from datetime import datetime, timedelta

from luthier.core import ids
from luthier.core.models import Attempt, Event, Job, JobError
from luthier.core.states import AttemptEnd, EventCode, EventLevel
from luthier.core.training.executor_port import Ending
from luthier.run_directory.run_directory import EXIT_DISK_FULL
from luthier.service.context import Context
from luthier.service.jobs import job_events
from luthier.store.queries import attempts, events, jobs

logger = logging.getLogger(__name__)

MAX_ENDS_WITHOUT_PROGRESS = 3
"""Ends caused by the trainer itself without progress, after which the job fails."""
MAX_EXTERNAL_ENDS = 20
"""Ends of any kind without progress, after which it fails too."""
BACK_OFF_S = (1.0, 4.0, 16.0, 60.0)
"""The wait after the first, second, third and each later end without progress."""
EXTERNAL_ENDS = {AttemptEnd.KILLED, AttemptEnd.STOPPED, AttemptEnd.VANISHED}
"""Ends with an external cause: a signal, a machine that went down."""

_LESS_MEMORY = "Lower batch_size or shorten long examples."
_FAULTS = {
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGSEGV,
    signal.SIGSYS,
    signal.SIGTRAP,
}
"""Signals that a process causes itself."""


def start_attempt(context: Context, job: Job) -> int:
    """Writes the row of an attempt before its trainer is started, and returns its number; reuses one whose start a
    crash interrupted.

    A further attempt takes over the step counts of the last one and gets a RESTARTED event, and the job's `started_at`
    moves on by the time in which nothing ran.
    """
    now = context.now()
    with context.database.writing() as tx:
        previous = next(iter(attempts.list_of_job(tx, job.id)), None)
        number = 1 if previous is None else previous.number + (previous.ended_at is not None)
        if previous is None:
            attempts.insert_attempt(tx, Attempt(ids.attempt_id(context.new_hex()), job.id, number, now, last_step=0))
        elif previous.ended_at is not None:
            attempt = Attempt(ids.attempt_id(context.new_hex()), job.id, number, now, previous.last_step)
            attempts.insert_attempt(tx, replace(attempt, saved_step=previous.saved_step))
            events.insert_events(tx, [_restarted(context, previous, number)])
            if job.started_at is not None:
                # The estimate uses seconds per step: time in which nothing ran does not count.
                jobs.set_started_at(tx, job.id, job.started_at + (now - previous.ended_at))
    return number


def current_number(context: Context, job: Job) -> int:
    """The number of the job's newest attempt; 1 before the first."""
    with context.database.reading() as tx:
        newest = next(iter(attempts.list_of_job(tx, job.id)), None)
    return 1 if newest is None else newest.number


def end_attempt(context: Context, job: Job, end: AttemptEnd, process: Ending | None = None) -> None:
    """Writes how the open attempt of a job ended, whose trainer process has exited, and clears the job's handle.

    `process` is how that process exited; None if it is not known.
    """
    process = process or Ending()
    with context.database.writing() as tx:
        attempts.close(tx, job.id, context.now(), end, signal=process.signal, exit_status=process.exit_status)
        jobs.set_handle(tx, job.id, None)
    logger.info("attempt ended job=%s end=%s", job.id, end)


def end_without_verdict(process: Ending) -> AttemptEnd:
    """Why an attempt is over whose trainer left no verdict in its event log, by how its process ended."""
    match process:
        case Ending(out_of_memory=True):
            return AttemptEnd.OUT_OF_MEMORY
        case Ending(signal=int(number)):
            return AttemptEnd.CRASHED if number in _FAULTS else AttemptEnd.KILLED
        case Ending(exit_status=0):
            return AttemptEnd.STOPPED
        case Ending(exit_status=status) if status == EXIT_DISK_FULL:
            return AttemptEnd.DISK_FULL
        case Ending(exit_status=int()):
            return AttemptEnd.CRASHED
        case _:
            return AttemptEnd.VANISHED


def without_progress(context: Context, job: Job) -> list[Attempt]:
    """The attempts that ended without a verdict since the last progress of the run, newest first; empty if none did.

    Progress is a step that was not reported before, or a later saved step. A pause resets the count, and attempts that
    ended because the service stopped are left out.
    """
    with context.database.reading() as tx:
        newest_first = attempts.list_of_job(tx, job.id)
    failed: list[Attempt] = []
    for attempt in newest_first:
        latest = newest_first[0]
        has_progress = (attempt.last_step, attempt.saved_step) != (latest.last_step, latest.saved_step)
        if attempt.end is AttemptEnd.PAUSED or has_progress:
            break
        if attempt.ended_at is not None and attempt.end is not AttemptEnd.SERVICE_STOPPED:
            failed.append(attempt)
    return failed


def is_retry_due(failed: list[Attempt], now: datetime) -> bool:
    """Whether another attempt may start now: the back-off after these attempts is over, or there are none."""
    if not failed:
        return True
    ended_at = failed[0].ended_at
    assert ended_at is not None
    back_off = timedelta(seconds=BACK_OFF_S[min(len(failed), len(BACK_OFF_S)) - 1])
    return not ended_at <= now < ended_at + back_off  # a clock that was set back must not prolong it


def are_too_many(failed: list[Attempt]) -> bool:
    """Whether the job fails after these attempts without progress: three by the trainer's own fault, or 20 in all."""
    own = sum(attempt.end not in EXTERNAL_ENDS for attempt in failed)
    return own >= MAX_ENDS_WITHOUT_PROGRESS or len(failed) >= MAX_EXTERNAL_ENDS


def give_up_error(failed: list[Attempt]) -> JobError:
    """The error of a job whose trainer ended too often without progress, by its attempts (at least one), newest first.

    Its code is out_of_memory, disk_full or trainer_died. Users read it: it names no path.
    """
    last = failed[0]
    times = f"{len(failed)} times {job_events.position(last.last_step)}"
    ends = {attempt.end for attempt in failed}
    if AttemptEnd.OUT_OF_MEMORY in ends:
        return JobError("out_of_memory", f"The trainer ended {times}: it ran out of memory. {_LESS_MEMORY}")
    if AttemptEnd.DISK_FULL in ends:
        text = f"The trainer ended {times}: its disk is full. Have the operator make room, and create the job again."
        return JobError("disk_full", text)
    text = (
        f"The trainer ended {times} without progress; the last time it {job_events.outcome(last)}. The operator "
        "of this service has the trainer's log, under the job's id."
    )
    if last.end is AttemptEnd.KILLED:
        text += f" If the kernel killed it because memory was short: {_LESS_MEMORY[0].lower()}{_LESS_MEMORY[1:]}"
    return JobError("trainer_died", text)


def _restarted(context: Context, previous: Attempt, number: int) -> Event:
    """The event of a further attempt, not inserted: how the previous one ended; a warning unless that was expected."""
    expected = previous.end in {AttemptEnd.PAUSED, AttemptEnd.SERVICE_STOPPED}
    return job_events.message(
        context,
        previous.job_id,
        EventCode.RESTARTED,
        {
            "attempt": number,
            "last_step": previous.last_step,
            "end": previous.end,
            "signal": previous.signal,
            "exit_status": previous.exit_status,
        },
        level=EventLevel.INFO if expected else EventLevel.WARNING,
    )
