"""Attempts at a job's run: begun, ended, told in plain words, and when another one is worth it."""

import logging
from datetime import datetime, timedelta
from pathlib import Path

from luthier.core import ids
from luthier.core.models import Attempt, Job, JobError
from luthier.core.ports import Ending
from luthier.core.states import AttemptEnd, EventLevel
from luthier.run_directory import EXIT_DISK_FULL
from luthier.service.context import Context
from luthier.service.jobs import message
from luthier.store import attempts, events, jobs
from luthier.store.db import Connection

logger = logging.getLogger(__name__)

MAX_FRUITLESS_ENDS = 3
"""Ends of the trainer at one and the same step, after which the job is given up."""
BACK_OFF = (timedelta(seconds=1), timedelta(seconds=4))
"""How long to wait after the first and the second of them: what killed it may pass."""

_LESS_MEMORY = "Lower batch_size or shorten long examples."


def begin(context: Context, job: Job) -> None:
    """Writes that a trainer is about to be started; an attempt whose start a crash of ours cut short is taken up."""
    now = context.now()
    with context.database.writing() as tx:
        previous = next(iter(attempts.list_of_job(tx, job.id)), None)
        if previous is None:
            attempts.insert_attempt(tx, Attempt(ids.attempt_id(context.new_hex()), job.id, 1, now, last_step=0))
        elif previous.ended_at is not None:
            number = previous.number + 1
            begun = Attempt(ids.attempt_id(context.new_hex()), job.id, number, now, previous.last_step)
            attempts.insert_attempt(tx, begun)
            events.insert_events(tx, [message(context, job.id, _going_on(previous, number), _level(previous))])
            if job.started_at is not None:
                # The pace of the steps gives the estimate: time in which nothing ran is no part of it.
                jobs.set_started_at(tx, job.id, job.started_at + (now - previous.ended_at))


def end(context: Context, job: Job, end: AttemptEnd, detail: str) -> None:
    """Writes that the job's trainer is gone, and how; the job has no process then."""
    with context.database.writing() as tx:
        close(tx, job, context.now(), end, detail)
    logger.info("attempt ended job=%s end=%s", job.id, end)


def close(tx: Connection, job: Job, at: datetime, end: AttemptEnd, detail: str) -> None:
    attempts.close(tx, job.id, at, end, detail)
    jobs.set_handle(tx, job.id, None)


def described(ending: Ending) -> tuple[AttemptEnd, str]:
    """What to call the end of a trainer that left no verdict, and the words for it behind "The trainer"."""
    match ending:
        case Ending(out_of_memory=True):
            return AttemptEnd.OUT_OF_MEMORY, "ran out of memory"
        case Ending(signal=int(number)):
            return AttemptEnd.KILLED, f"was killed (signal {number})"
        case Ending(exit_status=0):
            return AttemptEnd.STOPPED, "was asked to leave by a signal"
        case Ending(exit_status=status) if status == EXIT_DISK_FULL:
            return AttemptEnd.DISK_FULL, "found its disk full"
        case Ending(exit_status=int(status)):
            return AttemptEnd.CRASHED, f"ended with status {status}"
        case _:
            return AttemptEnd.VANISHED, "was gone"


def fruitless(context: Context, job: Job) -> list[Attempt]:
    """The newest attempts that ended at one step without a verdict, newest first; a pause begins the count anew."""
    with context.database.reading() as tx:
        made = attempts.list_of_job(tx, job.id)
    found: list[Attempt] = []
    for attempt in made:
        if attempt.end is AttemptEnd.PAUSED or attempt.last_step != made[0].last_step:
            break
        if attempt.ended_at is not None and attempt.end is not AttemptEnd.SERVICE_STOPPED:
            found.append(attempt)
    return found


def is_due(tries: list[Attempt], now: datetime) -> bool:
    """Whether the next attempt may begin, after these fruitless ones."""
    if not tries:
        return True
    ended_at = tries[0].ended_at
    assert ended_at is not None
    return now >= ended_at + BACK_OFF[min(len(tries), len(BACK_OFF)) - 1]


def given_up(tries: list[Attempt], log: Path) -> JobError:
    """The error of a job whose trainer ended at one step too often."""
    last = tries[0]
    times = f"{len(tries)} times {_place(last)}"
    ends = {attempt.end for attempt in tries}
    if AttemptEnd.OUT_OF_MEMORY in ends:
        text = f"The trainer ended {times}: it ran out of memory. {_LESS_MEMORY} Its log: {log}"
        return JobError("out_of_memory", text)
    if AttemptEnd.DISK_FULL in ends:
        text = f"The trainer ended {times}: the disk of {log.parent} is full. Make room there and create the job again."
        return JobError("disk_full", f"{text} Its log: {log}")
    text = f"The trainer ended {times} without getting further; the last time it {last.detail}. Its log: {log}"
    if last.end is AttemptEnd.KILLED:
        text += f" If that was the kernel for want of memory: {_LESS_MEMORY[0].lower()}{_LESS_MEMORY[1:]}"
    return JobError("trainer_died", text)


def _going_on(previous: Attempt, number: int) -> str:
    place = _place(previous)
    match previous.end:
        case AttemptEnd.PAUSED:
            return f"Going on where the job was paused, {place}, attempt {number}."
        case AttemptEnd.SERVICE_STOPPED:
            what = f"The service was stopped {place}"
        case _:
            what = f"The trainer {previous.detail} {place}"
    return (
        f"{what}; {'going on from the last saved step' if previous.last_step else 'starting again'}, attempt {number}."
    )


def _level(previous: Attempt) -> EventLevel:
    ours = previous.end in {AttemptEnd.PAUSED, AttemptEnd.SERVICE_STOPPED}
    return EventLevel.INFO if ours else EventLevel.WARNING


def _place(attempt: Attempt) -> str:
    return f"after step {attempt.last_step}" if attempt.last_step else "before the first step"
