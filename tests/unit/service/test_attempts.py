"""Attempts at a run: counted, worded, retried with back-off, and given up with the reason."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fakes import Killed, MortalDatabase, ScriptedExecutor, save_checkpoint, ticked, train_well
from job_reads import attempts, messages, refreshed
from luthier.core.models import Job
from luthier.core.states import AttemptEnd, JobStatus
from luthier.core.training.executor_port import Ending
from luthier.run_directory.run_directory import EXIT_DISK_FULL, RunDirectory
from luthier.run_directory.run_events import Metrics, Saved, Started, Succeeded
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.jobs import job_events, jobs
from luthier.service.jobs.attempts import BACK_OFF_S, MAX_ENDS_WITHOUT_PROGRESS, MAX_EXTERNAL_ENDS
from luthier.service.models.serving import Serving

SIGKILL = Ending(signal=9)


def steps(run: RunDirectory, *numbers: int) -> None:
    """What a trainer tells of these steps, of twelve in all."""
    if not run.events.exists():
        run.append(Started(at=1.0, n_steps=12, n_examples=10, n_tokens=100, supervised_tokens=40))
    for step in numbers:
        run.append(Metrics(at=2.0 + step, step=step, n_steps=12, train_loss=1.0, train_mean_token_accuracy=0.5))


class Hours:
    """A clock that moves an hour with every look: no back-off is longer."""

    def __init__(self) -> None:
        self.time = datetime(2027, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        self.time += timedelta(hours=1)
        return self.time


def finish(run: RunDirectory) -> None:
    save_checkpoint(run, 12, 20.0)
    run.results.write_text("step\n")
    run.append(Succeeded(at=1_900_000_000.0, trained_tokens=200, seconds=5.0, peak_memory_bytes=1))


def test_attempts_of_a_job_whose_trainer_was_killed_record_both_runs(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    def trainer(run: RunDirectory) -> None:
        if len(executor.started) == 1:
            steps(run, 1, 2, 3)
        else:
            steps(run, *range(4, 13))
            finish(run)

    executor.trainer = trainer
    executor.endings = {"fake:1": SIGKILL}
    job = create()
    for _ in range(8):
        supervisor.tick()
    first, second = attempts(context, job)
    assert (first.number, first.last_step, first.end, job_events.outcome(first)) == (
        1,
        3,
        AttemptEnd.KILLED,
        "was killed (signal 9)",
    )
    assert (second.number, second.last_step, second.end) == (2, 12, AttemptEnd.SUCCEEDED)
    assert first.ended_at is not None
    assert first.started_at < first.ended_at < second.started_at
    assert second.ended_at == refreshed(context, job).finished_at
    told = messages(context, job)
    text = "The trainer was killed (signal 9) after step 3; continuing from the last saved step, attempt 2."
    assert told.count(text) == 1


def test_trainer_that_died_while_the_service_was_stopped_has_vanished(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    executor.trainer = lambda run: steps(run, *range(1, 13)) if len(executor.started) == 1 else finish(run)
    job = create()
    for _ in range(8):
        supervisor.tick()
    assert attempts(context, job)[0].end is AttemptEnd.VANISHED
    text = "The trainer was no longer running after step 12; continuing from the last saved step, attempt 2."
    assert text in messages(context, job)


def test_running_attempt_is_open_and_knows_its_step(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    executor.trainer = lambda run: steps(run, 1, 2)
    executor.alive = {"fake:1"}
    job = create()
    for _ in range(4):
        supervisor.tick()
    [attempt] = attempts(context, job)
    assert (attempt.number, attempt.last_step, attempt.end, attempt.ended_at) == (1, 2, None, None)


def test_dead_trainer_is_noticed_by_the_next_tick(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    executor.trainer = lambda run: steps(run, 1)
    executor.alive = {"fake:1"}
    job = create()
    for _ in range(5):
        supervisor.tick()
    executor.alive.clear()
    supervisor.tick()
    assert attempts(context, job)[0].end is AttemptEnd.VANISHED


@pytest.mark.parametrize(
    ("ending", "code", "words"),
    [
        (Ending(signal=9, out_of_memory=True), "out_of_memory", "it ran out of memory. Lower batch_size or shorten"),
        (Ending(signal=11), "trainer_died", "crashed (signal 11)"),
        (Ending(exit_status=1), "trainer_died", "exited with status 1"),
        (Ending(exit_status=EXIT_DISK_FULL), "disk_full", "Have the operator make room"),
    ],
)
def test_job_that_ends_its_trainer_three_times_at_one_step_fails_with_the_reason(
    context: Context,
    supervisor: Supervisor,
    executor: ScriptedExecutor,
    create: Callable[..., Job],
    ending: Ending,
    code: str,
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    executor.trainer = lambda run: steps(run, 1, 2) if len(executor.started) == 1 else None
    executor.endings = dict.fromkeys(("fake:1", "fake:2", "fake:3"), ending)
    job = create()
    for _ in range(20):
        supervisor.tick()
    ended = refreshed(context, job)
    assert ended.error is not None
    assert (ended.status, ended.error.code) == (JobStatus.FAILED, code)
    assert words in ended.error.message
    assert f"{MAX_ENDS_WITHOUT_PROGRESS} times after step 2" in ended.error.message
    assert len(attempts(context, job)) == len(executor.started) == MAX_ENDS_WITHOUT_PROGRESS
    assert str(context.data_folder) not in "".join([ended.error.message, *messages(context, job)])
    assert f"log={context.runs_folder / job.id / 'trainer.log'}" in caplog.text


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (SIGKILL, "was killed (signal 9). The operator"),
        (SIGKILL, "If the kernel killed it because memory was short: lower batch_size or shorten"),
        (Ending(signal=15), "was killed (signal 15)"),
        (Ending(exit_status=0), "exited after a signal asked it to"),
        (Ending(), "was no longer running"),
    ],
)
def test_external_ends_fail_a_job_only_after_many_without_progress(
    context: Context,
    serving: Serving,
    executor: ScriptedExecutor,
    create: Callable[..., Job],
    ending: Ending,
    words: str,
) -> None:
    clock = Hours()
    supervisor = Supervisor(replace(context, now=clock.now), executor, serving, tick_s=0.01)
    executor.trainer = lambda run: steps(run, 1, 2) if len(executor.started) == 1 else None
    executor.endings = {f"fake:{number}": ending for number in range(1, MAX_EXTERNAL_ENDS + 1)}
    job = create()
    for _ in range(3 * MAX_EXTERNAL_ENDS):
        supervisor.tick()
    ended = refreshed(context, job)
    assert ended.error is not None
    assert (ended.status, ended.error.code) == (JobStatus.FAILED, "trainer_died")
    assert words in ended.error.message
    assert f"{MAX_EXTERNAL_ENDS} times after step 2" in ended.error.message
    assert len(executor.started) == MAX_EXTERNAL_ENDS


def test_crashes_are_counted_apart_from_external_ends(
    context: Context, serving: Serving, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    supervisor = Supervisor(replace(context, now=Hours().now), executor, serving, tick_s=0.01)
    executor.trainer = lambda run: None
    crash = Ending(exit_status=1)
    executor.endings = dict(zip((f"fake:{n}" for n in range(1, 9)), [SIGKILL, crash] * 4, strict=True))
    job = create()
    for _ in range(40):
        supervisor.tick()
    assert refreshed(context, job).status is JobStatus.FAILED
    assert len(executor.started) == 2 * MAX_ENDS_WITHOUT_PROGRESS


def test_attempts_that_save_later_steps_count_as_progress(
    context: Context, serving: Serving, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    """The first attempt told of steps that it could not save; those after it compute them again, one each."""
    kills = MAX_EXTERNAL_ENDS + 5

    def trainer(run: RunDirectory) -> None:
        start = len(executor.started)
        if start == 1:
            steps(run, *range(1, 12))
        else:
            run.append(Saved(at=2.0, step=start - 1))
        if start > kills:
            steps(run, 12)
            finish(run)

    supervisor = Supervisor(replace(context, now=Hours().now), executor, serving, tick_s=0.01)
    executor.trainer = trainer
    executor.endings = {f"fake:{number}": SIGKILL for number in range(1, kills + 1)}
    job = create()
    for _ in range(3 * kills):
        supervisor.tick()
    assert refreshed(context, job).status is JobStatus.SUCCEEDED
    assert len(attempts(context, job)) == kills + 1


def test_trainer_with_progress_in_each_attempt_never_fails_the_job(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    def trainer(run: RunDirectory) -> None:
        steps(run, len(executor.started))
        if len(executor.started) == 12:
            finish(run)

    executor.trainer = trainer
    job = create()
    for _ in range(40):
        supervisor.tick()
    assert refreshed(context, job).status is JobStatus.SUCCEEDED
    assert [attempt.last_step for attempt in attempts(context, job)] == list(range(1, 13))


def test_back_off_between_attempts_delays_nothing_else(
    context: Context, serving: Serving, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    time = datetime(2027, 1, 1, tzinfo=UTC)
    supervisor = Supervisor(replace(context, now=lambda: time), executor, serving, tick_s=0.01)
    executor.trainer = lambda run: None
    create()
    executor.endings = {f"fake:{number}": SIGKILL for number in range(1, 9)}
    for expected, wait in enumerate((*BACK_OFF_S, BACK_OFF_S[-1]), start=1):
        for _ in range(4):
            supervisor.tick()
        assert len(executor.started) == expected
        other = create()
        supervisor.tick()
        assert refreshed(context, other).status is JobStatus.QUEUED
        time += timedelta(seconds=wait) - timedelta(milliseconds=1)
        supervisor.tick()
        assert len(executor.started) == expected
        time += timedelta(milliseconds=1)
        supervisor.tick()
        assert len(executor.started) == expected + 1


@pytest.mark.parametrize("when", ["before", "after"])
def test_trainer_started_just_before_a_crash_is_found_and_not_started_twice(
    context: Context, serving: Serving, executor: ScriptedExecutor, create: Callable[..., Job], when: str
) -> None:
    executor.trainer = lambda run: steps(run, 1, 2)
    executor.alive = {"fake:1"}
    job = create()
    dying = Supervisor(replace(context, database=MortalDatabase(context.database, 5, when)), executor, serving, 0.01)
    with pytest.raises(Killed):
        ticked(dying, 4)
    assert len(executor.started) == 1
    again = Supervisor(context, executor, serving, tick_s=0.01)
    for _ in range(4):
        again.tick()
    assert len(executor.started) == 1
    assert refreshed(context, job).handle == "fake:1"
    assert [attempt.end for attempt in attempts(context, job)] == [None]


def test_cancelled_job_with_an_unrecorded_trainer_leaves_neither_process_nor_directory(
    context: Context, serving: Serving, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    executor.trainer = lambda run: steps(run, 1)
    executor.alive = {"fake:1"}
    job = create()
    dying = Supervisor(
        replace(context, database=MortalDatabase(context.database, 5, "before")), executor, serving, 0.01
    )
    with pytest.raises(Killed):
        ticked(dying, 4)
    jobs.cancel(context, job.resource_id, job.id)
    Supervisor(context, executor, serving, tick_s=0.01).tick()
    assert executor.killed == ["fake:1"]
    assert list(context.runs_folder.iterdir()) == []


def test_stop_of_the_service_ends_the_attempt_and_the_next_start_resumes_at_once(
    context: Context, serving: Serving, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    executor.trainer = lambda run: steps(run, 1) if len(executor.started) == 1 else None
    executor.alive = {f"fake:{number}" for number in range(1, 9)}
    job = create()
    for start in range(1, 6):
        supervisor = Supervisor(context, executor, serving, tick_s=0.01)
        for _ in range(3):
            supervisor.tick()
        assert len(executor.started) == start
        supervisor.stop()
    assert executor.stopped == [f"fake:{number}" for number in range(1, 6)]
    assert {attempt.end for attempt in attempts(context, job)} == {AttemptEnd.SERVICE_STOPPED}
    assert refreshed(context, job).status is JobStatus.RUNNING
    text = "The service was stopped after step 1; continuing from the last saved step, attempt 2."
    assert text in messages(context, job)


def test_run_that_succeeded_while_the_service_stopped_succeeds_at_the_next_start(
    context: Context, serving: Serving, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    executor.trainer = lambda run: None
    executor.alive = {"fake:1"}
    job = create()
    supervisor = Supervisor(context, executor, serving, tick_s=0.01)
    for _ in range(3):
        supervisor.tick()
    train_well(RunDirectory(executor.started[0]))
    supervisor.stop()
    assert [attempt.end for attempt in attempts(context, job)] == [None]
    Supervisor(context, executor, serving, tick_s=0.01).tick()
    assert refreshed(context, job).status is JobStatus.SUCCEEDED
    assert [attempt.end for attempt in attempts(context, job)] == [AttemptEnd.SUCCEEDED]


def test_cancelled_job_is_killed_without_waiting_for_its_step(
    context: Context, supervisor: Supervisor, executor: ScriptedExecutor, create: Callable[..., Job]
) -> None:
    executor.trainer = lambda run: steps(run, 1)
    executor.alive = {"fake:1"}
    job = create()
    for _ in range(3):
        supervisor.tick()
    jobs.cancel(context, job.resource_id, job.id)
    supervisor.tick()
    assert (executor.killed, executor.stopped) == (["fake:1"], [])
    assert [attempt.end for attempt in attempts(context, job)] == [AttemptEnd.CANCELLED]
    assert list(context.runs_folder.iterdir()) == []
