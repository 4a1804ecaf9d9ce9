"""A job as experiment trackers get it: its rows and events become a run, points and an end. No text of a user is among
them, but for what the caller named in `integrations`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from luthier.core.models import Event, Job
from luthier.core.states import TERMINAL_JOB_STATUSES, EventCode, EventType, JobStatus, SinkName, TrackedStatus
from luthier.core.training import tracking
from luthier.core.training.tracking import TrackedEnd, TrackedPoint, TrackedRun
from luthier.service.context import Context
from luthier.service.jobs import job_recipes
from luthier.store.queries import events, jobs
from luthier.store.queries.delivery import sink_cursors
from luthier.store.queries.delivery.sink_cursors import SinkCursor

EVENTS_AT_ONCE = 500
_COLUMNS = {"valid_mean_token_accuracy": "validation_mean_token_accuracy"}
"""The one figure whose column in results.csv has another name."""
_ENDS = {
    JobStatus.SUCCEEDED: TrackedStatus.FINISHED,
    JobStatus.FAILED: TrackedStatus.FAILED,
    JobStatus.CANCELLED: TrackedStatus.KILLED,
}


@dataclass(frozen=True, slots=True)
class News:
    """What of a job a sink has not been sent yet. `last_seq` is the number of the last event that was read, `end` is
    set once nothing more can come.
    """

    run: TrackedRun | None
    """None: the job ended before it started, so there is nothing to track."""
    points: list[TrackedPoint]
    end: TrackedEnd | None
    last_seq: int


def read_news(context: Context, cursor: SinkCursor, after: int) -> News | None:
    """What has happened to a job since the event of number `after`; None if the job is gone. A job of many events comes
    in parts, at most EVENTS_AT_ONCE of them.
    """
    with context.database.reading() as tx:
        job = jobs.by_id(tx, cursor.job_id)
        rows = events.list_numbered(tx, cursor.job_id, after, EVENTS_AT_ONCE)
    if job is None:
        return None
    points = [point for seq, event in rows if (point := _point(seq, event)) is not None]
    is_over = job.status in TERMINAL_JOB_STATUSES and not job.has_run and len(rows) < EVENTS_AT_ONCE
    return News(_run(job, cursor), points, _end(job) if is_over else None, rows[-1][0] if rows else after)


def add_open_jobs(context: Context, sink: SinkName) -> None:
    """Gives each open job that is to be sent to the sink a cursor there, if it has none: from before it was set up."""
    with context.database.writing() as tx:
        for job in jobs.list_open(tx):
            if sink in context.tracking.sinks_of(job.extras):
                sink_cursors.insert_missing(tx, job.id, [sink])


def _point(seq: int, event: Event) -> TrackedPoint | None:
    """The figures of an event of a step, or of a checkpoint at the end of an epoch; None for others."""
    data: Mapping[str, object] = event.data or {}
    if event.type is EventType.METRICS:
        figures = {_COLUMNS.get(name, name): value for name, value in data.items() if name != "step"}
    elif data.get("code") == EventCode.CHECKPOINT and data.get("epoch") is not None:
        figures = {"epoch": data["epoch"]}
    else:
        return None
    numbers = {
        name: float(value)
        for name, value in figures.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    step = data.get("step")
    return TrackedPoint(seq, step, event.created_at, numbers) if isinstance(step, int) and numbers else None


def _run(job: Job, cursor: SinkCursor) -> TrackedRun | None:
    """The job's run; None for a job that has not started."""
    if job.started_at is None:
        return None
    fields = (tracking.wandb_fields(job.extras) if cursor.sink is SinkName.WANDB else None) or {}
    return TrackedRun(
        job.id,
        job.base_model,
        job.created_at,
        job.started_at,
        _params(job),
        cursor.run_id,
        project=fields.get("project"),
        name=fields.get("name"),
        entity=fields.get("entity"),
        tags=tuple(fields.get("tags") or ()),
    )


def _params(job: Job) -> dict[str, str]:
    """The settings of a job and the ids of its files, as text; those without a value are left out."""
    values: dict[str, object] = {
        "model": job.base_model,
        "method": str(job.method),
        "seed": job.seed,
        "training_file": job.training_file,
        "validation_file": job.validation_file,
        "early_stopping_patience": job.early_stop_patience,
        **asdict(job.hyperparameters),
    }
    recipe = job.extras.get(job_recipes.RECIPE)
    if isinstance(recipe, Mapping):
        values |= {f"luthier.{name}": value for name, value in recipe.items()}
    return {name: str(value) for name, value in values.items() if value is not None}


def _end(job: Job) -> TrackedEnd:
    """How an ended job ended."""
    values = {"trained_tokens": job.trained_tokens, "error": job.error.code if job.error else None}
    known = {name: str(value) for name, value in values.items() if value is not None}
    return TrackedEnd(_ENDS[job.status], job.finished_at or job.created_at, known)
