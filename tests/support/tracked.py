"""Runs and points as sinks get them, jobs with events as the worker reads them, and what TensorBoard reads."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from luthier.core import ids
from luthier.core.models import Event, Job
from luthier.core.states import EventCode, EventType, JobStatus, Method, TrackedStatus
from luthier.core.training.hyperparameters import Hyperparameters
from luthier.core.training.tracking import TrackedEnd, TrackedPoint, TrackedRun
from luthier.service.context import Context
from luthier.service.jobs import job_events
from luthier.store.queries import events, jobs
from luthier.store.queries.delivery import sink_cursors
from luthier.trackers import event_files

AT = datetime(2026, 11, 1, tzinfo=UTC)
METRICS = EventType.METRICS
JOB = "ftjob-" + "a" * 32
Figures = dict[tuple[int, str], float]


def run(job_id: str = JOB, run_id: str | None = None) -> TrackedRun:
    params = {"model": "tiny", "seed": "1", "n_epochs": "2"}
    return TrackedRun(job_id, "tiny", AT, AT, params, run_id, project="house", tags=("mine",))


def points(first: int, last: int) -> list[TrackedPoint]:
    """Two figures a step; every fifth step ends an epoch."""
    made = []
    for step in range(first, last + 1):
        at = AT + timedelta(seconds=step)
        made.append(TrackedPoint(10 * step, step, at, {"train_loss": loss(step), "train_mean_token_accuracy": 0.5}))
        if step % 5 == 0:
            made.append(TrackedPoint(10 * step + 1, step, at, {"epoch": step / 5}))
    return made


def loss(step: int) -> float:
    """Exact in float32 too."""
    return step / 64


def end(status: TrackedStatus = TrackedStatus.FINISHED) -> TrackedEnd:
    return TrackedEnd(status, AT + timedelta(hours=1), {"trained_tokens": "200"})


def expected(given: Sequence[TrackedPoint]) -> Figures:
    return {(point.step, name): value for point in given for name, value in point.figures.items()}


def once(rows: Sequence[tuple[int, str, float]]) -> Figures:
    """The figures; fails where one is there twice."""
    figures = {(step, name): value for step, name, value in rows}
    assert len(figures) == len(rows), "a figure is there twice"
    return figures


def started_job(
    context: Context, resource_id: str, status: JobStatus = JobStatus.RUNNING, steps: int = 0, **extras: object
) -> Job:
    """A job with cursors at the sinks of the context and events of so many steps, as if its trainer had begun."""
    job = Job(
        id=ids.job_id(context.new_hex()),
        resource_id=resource_id,
        status=status,
        base_model="tiny",
        requested_model="tiny",
        parent_model=None,
        training_file="file-1",
        validation_file=None,
        hyperparameters=Hyperparameters(n_epochs=2, batch_size=5, learning_rate_multiplier=1.0),
        method=Method.SUPERVISED,
        method_sent=False,
        seed=1,
        suffix="a-private-suffix",
        extras=extras,
        created_at=AT,
        started_at=AT,
    )
    with context.database.writing() as tx:
        jobs.insert_job(tx, job)
        sink_cursors.insert_missing(tx, job.id, context.tracking.sinks_of(extras))
        events.insert_events(tx, step_events(context, job, 1, steps))
    return job


def add_steps(context: Context, job: Job, first: int, last: int) -> None:
    """Inserts the events of these steps."""
    insert(context, *step_events(context, job, first, last))


def step_events(context: Context, job: Job, first: int, last: int) -> list[Event]:
    """The events of these steps, as `points` has them."""
    made: list[Event] = []
    for point in points(first, last):
        if "epoch" in point.figures:
            values = {"step": point.step, "epoch": int(point.figures["epoch"])}
            made.append(job_events.message(context, job.id, EventCode.CHECKPOINT, values, at=point.at))
        else:
            made.append(job_events.metrics(context, job.id, point.at, point.step, point.figures))
    return made


def insert(context: Context, *made: Event) -> None:
    with context.database.writing() as tx:
        events.insert_events(tx, made)


def finish(context: Context, job: Job, status: JobStatus = JobStatus.SUCCEEDED) -> None:
    with context.database.writing() as tx:
        assert jobs.move(tx, job.id, [JobStatus.RUNNING], status, finished_at=AT, trained_tokens=200)


def event_file(folder: Path, job_id: str) -> Path:
    [path] = (folder / job_id).iterdir()
    return path


def tags_and_steps(path: Path) -> list[tuple[int, str, float]]:
    """What is in an event file, by our own reader, without values: 0.0 for each."""
    return [
        (step, tag, 0.0)
        for payload, _ in event_files.read_records(path.read_bytes())
        for step, tags in [event_files.step_and_tags(payload)]
        for tag in tags
    ]
