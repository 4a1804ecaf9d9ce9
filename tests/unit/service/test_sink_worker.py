"""What is sent of a job, and what a sink that fails or hangs does to the job: nothing."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

import fake_mlflow
import tracked
from fake_mlflow import FakeMlflow
from fakes import Killed, MortalDatabase
from job_reads import messages, refreshed
from luthier.core.errors import Unauthenticated, Unavailable
from luthier.core.models import Event, Job, Principal
from luthier.core.states import EventCode, EventLevel, JobStatus, SinkName, SinkState, TrackedStatus
from luthier.core.training.tracking import (
    NO_TARGETS,
    Delivery,
    MlflowTarget,
    TrackedEnd,
    TrackedPoint,
    TrackedRun,
    TrackingTargets,
    WandbTarget,
)
from luthier.service.background.sink_worker import WARN_AFTER, SinkWorker
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.jobs import jobs
from luthier.store.queries import jobs as job_rows
from luthier.store.queries.delivery import sink_cursors
from luthier.store.queries.delivery.sink_cursors import SinkCursor
from luthier.trackers.mlflow_sink import MlflowSink
from luthier.trackers.tensorboard_sink import TensorBoardSink
from waiting import PATIENCE

TARGETS = TrackingTargets(tensorboard=Path("tb"), wandb=WandbTarget(Path("wandb")))


@dataclass
class ListSink:
    """Keeps what it is given; raises `error` while there is one."""

    name: SinkName = SinkName.TENSORBOARD
    error: Exception | None = None
    confirms: bool = True
    points: list[TrackedPoint] = field(default_factory=list)
    runs: list[TrackedRun] = field(default_factory=list)
    ends: list[TrackedEnd] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    calls: int = 0

    def deliver(self, run: TrackedRun, points: Sequence[TrackedPoint], end: TrackedEnd | None) -> Delivery:
        self.calls += 1
        if self.error is not None:
            raise self.error
        self.runs.append(run)
        self.points += points
        self.ends += [end] if end is not None else []
        return Delivery("run-1", "a folder", points[-1].seq if points and self.confirms else 0)

    def forget(self, job_id: str) -> None:
        self.forgotten.append(job_id)

    def close(self) -> None:
        pass


@pytest.fixture
def context(context: Context) -> Context:
    """With sinks, for whatever creates jobs."""
    return replace(context, tracking=TARGETS)


def cursor_of(context: Context, job: Job, sink: SinkName = SinkName.TENSORBOARD) -> SinkCursor:
    with context.database.reading() as tx:
        [cursor] = [each for each in sink_cursors.list_of_job(tx, job.id) if each.sink is sink]
    return cursor


def told(context: Context, job: Job) -> list[Event]:
    """The events about sinks, oldest first."""
    page, _ = jobs.list_events(context, job.resource_id, job.id, None, 100)
    return [event for event in reversed(page) if str((event.data or {}).get("code", "")).startswith("tracking_")]


def later(context: Context, seconds: float) -> Context:
    """The same context at a later time."""
    return replace(context, now=lambda: context.now() + timedelta(seconds=seconds))


def frozen(context: Context, at: datetime) -> Context:
    """The same context at that time."""
    return replace(context, now=lambda: at)


def next_at(context: Context, job: Job) -> datetime:
    at = cursor_of(context, job).next_at
    assert at is not None
    return at


def test_job_is_sent_from_its_first_step_to_its_end(
    context: Context, supervisor: Supervisor, create: Callable[..., Job]
) -> None:
    sink = ListSink()
    worker = SinkWorker(context, sink)
    worker.tick()
    job = create(validation=True)
    worker.tick()
    for _ in range(5):
        supervisor.tick()
        worker.tick()
    assert refreshed(context, job).status is JobStatus.SUCCEEDED
    steps = [(point.step, sorted(point.figures)) for point in sink.points]
    train = ["train_loss", "train_mean_token_accuracy"]
    full = ["full_valid_loss", "full_valid_mean_token_accuracy", *train]
    assert steps == [(1, train), (2, full), (2, ["epoch"]), (3, train), (4, full), (4, ["epoch"])]
    [end] = sink.ends
    assert (end.status, end.params) == (TrackedStatus.FINISHED, {"trained_tokens": "200"})
    params = sink.runs[0].params
    assert (params["n_epochs"], params["batch_size"], params["seed"]) == ("2", "5", "1")
    assert params["training_file"] == job.training_file
    assert cursor_of(context, job).state is SinkState.DONE
    assert [event.message for event in told(context, job)] == ["Metrics are sent to tensorboard: a folder"]
    calls = sink.calls
    worker.tick()
    assert sink.calls == calls


def test_figures_have_the_names_of_results_csv_and_no_text_is_sent(context: Context, caller: Principal) -> None:
    extras = {"metadata": {"a": "private words"}, "luthier": {"lora_rank": 4}}
    job = tracked.started_job(context, caller.resource.id, **extras)
    event = Event(
        "ev-1", job.id, tracked.AT, EventLevel.INFO, tracked.METRICS, "private words",
        {"step": 1, "valid_mean_token_accuracy": 0.5, "learning_rate": 1e-4, "words": "private words", "flag": True},
    )  # fmt: skip
    tracked.insert(context, event)
    sink = ListSink()
    SinkWorker(context, sink).tick()
    [point] = sink.points
    assert point.figures == {"validation_mean_token_accuracy": 0.5, "learning_rate": 1e-4}
    assert sink.runs[0].params["luthier.lora_rank"] == "4"
    assert "private" not in repr((sink.runs, sink.points))


@pytest.mark.parametrize(
    ("status", "end"), [(JobStatus.FAILED, TrackedStatus.FAILED), (JobStatus.CANCELLED, TrackedStatus.KILLED)]
)
def test_end_of_a_job_is_the_end_of_its_run(
    context: Context, caller: Principal, status: JobStatus, end: TrackedStatus
) -> None:
    job = tracked.started_job(context, caller.resource.id)
    tracked.add_steps(context, job, 1, 3)
    tracked.finish(context, job, status)
    sink = ListSink()
    SinkWorker(context, sink).tick()
    assert [each.status for each in sink.ends] == [end]
    assert tracked.expected(sink.points) == tracked.expected(tracked.points(1, 3))


def test_job_that_ended_before_it_started_opens_no_run(context: Context, create: Callable[..., Job]) -> None:
    job = create()
    jobs.cancel(context, job.resource_id, job.id)
    sink = ListSink()
    SinkWorker(context, sink).tick()
    assert sink.calls == 0
    assert cursor_of(context, job).state is SinkState.DONE


def test_pause_does_not_end_a_run_and_the_resumed_job_continues_it(context: Context, caller: Principal) -> None:
    job = tracked.started_job(context, caller.resource.id, steps=3)
    sink = ListSink()
    worker = SinkWorker(context, sink)
    worker.tick()
    states = [JobStatus.RUNNING, JobStatus.PAUSING, JobStatus.PAUSED, JobStatus.QUEUED, JobStatus.RUNNING]
    for before, after in pairwise(states):
        with context.database.writing() as tx:
            assert job_rows.move(tx, job.id, [before], after)
        worker.tick()
        SinkWorker(context, sink).tick()  # a restart at this moment
    assert (sink.ends, cursor_of(context, job).state) == ([], SinkState.OPEN)
    tracked.add_steps(context, job, 4, 6)
    tracked.finish(context, job)
    worker.tick()
    assert tracked.expected(sink.points) == tracked.expected(tracked.points(1, 6))
    assert len(sink.points) == len(tracked.points(1, 6))
    assert [run.run_id for run in sink.runs] == [None, "run-1"]
    assert [end.status for end in sink.ends] == [TrackedStatus.FINISHED]


def test_job_of_many_events_is_sent_in_parts_and_in_order(context: Context, caller: Principal) -> None:
    job = tracked.started_job(context, caller.resource.id)
    tracked.add_steps(context, job, 1, 1200)
    tracked.finish(context, job)
    sink = ListSink()
    worker = SinkWorker(context, sink)
    while cursor_of(context, job).state is not SinkState.DONE:
        worker.tick()
    assert sink.calls == 3
    assert [(p.step, p.figures) for p in sink.points] == [(p.step, p.figures) for p in tracked.points(1, 1200)]


def test_what_was_not_confirmed_is_sent_again_by_the_next_process_only(context: Context, caller: Principal) -> None:
    job = tracked.started_job(context, caller.resource.id)
    sink = ListSink(confirms=False)
    worker = SinkWorker(context, sink)
    tracked.add_steps(context, job, 1, 3)
    worker.tick()
    tracked.add_steps(context, job, 4, 6)
    worker.tick()
    worker.tick()
    assert [point.step for point in sink.points if "epoch" not in point.figures] == [1, 2, 3, 4, 5, 6]
    again = ListSink(confirms=False)
    SinkWorker(context, again).tick()
    assert tracked.expected(again.points) == tracked.expected(tracked.points(1, 6))
    assert again.runs[0].run_id == "run-1"


def test_failing_sink_is_told_once_and_once_when_it_has_caught_up(context: Context, caller: Principal) -> None:
    job = tracked.started_job(context, caller.resource.id)
    tracked.add_steps(context, job, 1, 3)
    sink = ListSink(error=Unavailable("sink_unavailable", "MLflow answered 500."))
    for number in range(8):
        SinkWorker(later(context, 1000 * number), sink).tick()
    cursor = cursor_of(context, job)
    assert (cursor.state, cursor.tries, cursor.error) == (SinkState.FAILING, 8, "sink_unavailable")
    [warning] = told(context, job)
    assert (warning.level, warning.data["error"]) == (EventLevel.WARNING, "sink_unavailable")
    sink.error = None
    worker = SinkWorker(later(context, 10_000), sink)
    worker.tick()
    tracked.add_steps(context, job, 4, 5)
    worker.tick()
    codes = [event.data["code"] for event in told(context, job)]
    assert codes == [EventCode.TRACKING_FAILING, EventCode.TRACKING_STARTED, EventCode.TRACKING_CAUGHT_UP]
    assert tracked.expected(sink.points) == tracked.expected(tracked.points(1, 5))


def test_one_failure_is_no_warning(context: Context, caller: Principal) -> None:
    job = tracked.started_job(context, caller.resource.id)
    tracked.add_steps(context, job, 1, 3)
    sink = ListSink(error=Unavailable("sink_unavailable", "MLflow answered 500."))
    for number in range(WARN_AFTER - 1):
        SinkWorker(later(context, 1000 * number), sink).tick()
    assert told(context, job) == []


def test_waits_between_tries_grow_with_jitter_and_heed_retry_after(context: Context, caller: Principal) -> None:
    job = tracked.started_job(context, caller.resource.id)
    sink = ListSink(error=Unavailable("sink_unavailable", "MLflow answered 500."))
    waits, at = [], context.now()
    for _ in range(12):
        now = at
        SinkWorker(frozen(context, now), sink, chance=lambda: 0.5).tick()
        at = next_at(context, job)
        waits.append((at - now).total_seconds())
    assert waits == [min(2.0**n, 300.0) * 0.75 for n in range(12)]
    sink.error = Unavailable("sink_unavailable", "MLflow answered 429.", retry_after_s=1000.0)
    SinkWorker(frozen(context, at), sink).tick()
    assert (next_at(context, job) - at).total_seconds() == 1000.0
    calls = sink.calls
    SinkWorker(frozen(context, at + timedelta(seconds=999)), sink).tick()
    assert sink.calls == calls


def test_refused_token_is_told_once_and_tried_again_at_the_next_start_only(context: Context, caller: Principal) -> None:
    job = tracked.started_job(context, caller.resource.id)
    tracked.add_steps(context, job, 1, 3)
    sink = ListSink(error=Unauthenticated("sink_unauthorized", "MLflow answered 401."))
    worker = SinkWorker(context, sink)
    for _ in range(5):
        worker.tick()
    assert sink.calls == 1
    SinkWorker(context, sink).tick()
    assert sink.calls == 2
    [warning] = told(context, job)
    assert warning.data["is_final"] is True
    sink.error = None
    SinkWorker(context, sink).tick()
    assert tracked.expected(sink.points) == tracked.expected(tracked.points(1, 3))
    assert cursor_of(context, job).state is SinkState.OPEN


def test_bug_in_a_sink_is_a_failing_sink(context: Context, caller: Principal) -> None:
    job = tracked.started_job(context, caller.resource.id)
    SinkWorker(context, ListSink(error=KeyError("private words"))).tick()
    assert cursor_of(context, job).error == "sink_bug"


def test_job_that_is_deleted_while_it_is_sent_is_forgotten(context: Context, caller: Principal) -> None:
    job = tracked.started_job(context, caller.resource.id)
    tracked.finish(context, job)

    class Deleting(ListSink):
        def deliver(self, run: TrackedRun, points: Sequence[TrackedPoint], end: TrackedEnd | None) -> Delivery:
            jobs.delete(context, job.resource_id, job.id)
            return super().deliver(run, points, end)

    sink = Deleting()
    worker = SinkWorker(context, sink)
    worker.tick()
    worker.tick()
    with context.database.reading() as tx:
        assert sink_cursors.list_of_job(tx, job.id) == []
    assert job.id in sink.forgotten


def test_job_that_is_deleted_between_two_ticks_is_forgotten(context: Context, caller: Principal) -> None:
    job = tracked.started_job(context, caller.resource.id, steps=3)
    sink = ListSink()
    worker = SinkWorker(context, sink)
    worker.tick()
    assert sink.forgotten == []
    tracked.finish(context, job)
    jobs.delete(context, job.resource_id, job.id)
    worker.tick()
    assert sink.forgotten == [job.id]


def test_open_jobs_are_taken_up_when_a_sink_is_set_up(context: Context, caller: Principal) -> None:
    without = replace(context, tracking=NO_TARGETS)
    job, ended = (tracked.started_job(without, caller.resource.id) for _ in range(2))
    tracked.finish(context, ended)
    tracked.add_steps(context, job, 1, 3)
    sink = ListSink()
    SinkWorker(context, sink).tick()
    assert tracked.expected(sink.points) == tracked.expected(tracked.points(1, 3))
    assert {run.job_id for run in sink.runs} == {job.id}


@pytest.mark.parametrize("when", ["before", "after"])
def test_death_at_any_write_loses_nothing_and_repeats_nothing(
    context: Context, caller: Principal, tmp_path: Path, when: str
) -> None:
    job = tracked.started_job(context, caller.resource.id)
    tracked.add_steps(context, job, 1, 12)
    tracked.finish(context, job)
    for write in range(1, 4):
        mortal = replace(context, database=MortalDatabase(context.database, write, when))
        with suppress(Killed):
            SinkWorker(mortal, TensorBoardSink(tmp_path)).tick()
        mortal.database.close()
    SinkWorker(context, TensorBoardSink(tmp_path)).tick()
    rows = [row for row in tracked.tags_and_steps(tracked.event_file(tmp_path, job.id)) if row[0] > 0]
    assert set(tracked.once(rows)) == set(tracked.expected(tracked.points(1, 12)))
    assert len(told(context, job)) == 1


@pytest.fixture
def mlflow() -> Iterator[FakeMlflow]:
    with fake_mlflow.running() as fake:
        yield fake


@pytest.mark.parametrize("fault", ["hangs", "500", "429", "401", "away"])
def test_sink_that_fails_or_hangs_does_not_touch_a_run(
    context: Context, supervisor: Supervisor, create: Callable[..., Job], mlflow: FakeMlflow, fault: str
) -> None:
    """The worker is in its thread, as in the service, while the supervisor's ticks are timed."""
    uri = "http://127.0.0.1:1" if fault == "away" else mlflow.uri
    if fault == "hangs":
        mlflow.before = mlflow.hang
    elif fault != "away":
        mlflow.refuse(int(fault), "X", retry_after="30")
    targets = TrackingTargets(mlflow=MlflowTarget(uri))
    sink = MlflowSink(MlflowTarget(uri), "luthier", 60.0)
    worker = SinkWorker(replace(context, tracking=targets), sink, tick_s=0.001)
    worker.start()
    try:
        job = create_in(replace(context, tracking=targets), create)
        began = time.monotonic()
        for _ in range(5):
            supervisor.tick()
        assert time.monotonic() - began < 5 * PATIENCE
        assert refreshed(context, job).status is JobStatus.SUCCEEDED
        assert messages(context, job).count("Job succeeded.") == 1
        assert mlflow.runs == {}
    finally:
        mlflow.hanging.set()
        worker.stop()


def create_in(context: Context, create: Callable[..., Job]) -> Job:
    """A job of `create`, whose context has no sinks, with the cursors of this one."""
    job = create()
    with context.database.writing() as tx:
        sink_cursors.insert_missing(tx, job.id, context.tracking.sinks_of(job.extras))
    return job
