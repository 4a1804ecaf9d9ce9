"""The metrics of a job for charts: a range of its steps, or what is new behind a cursor, reduced to so many rows."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from luthier.core.errors import InvalidRequest
from luthier.core.models import Checkpoint, Job
from luthier.core.states import EventCode
from luthier.service.context import Context
from luthier.service.job_views import metric_reduction
from luthier.service.job_views.metric_columns import FIGURES, REWARDS, SERIES, Columns
from luthier.service.job_views.metrics_cache import MetricsCache
from luthier.service.jobs import jobs
from luthier.store.db import Connection
from luthier.store.queries import checkpoints, events

DEFAULT_POINTS = 2_000
_CSV_ROWS = 2_000
"""Rows of a chunk of CSV."""


@dataclass(frozen=True, slots=True)
class MetricsQuery:
    """Which metrics are asked for: behind the cursor `after`, from one step to another (both included), only some
    series (empty: all), and about how many rows; None for `points` is all.
    """

    after: str | None = None
    from_step: int | None = None
    to_step: int | None = None
    series: tuple[str, ...] = ()
    points: int | None = DEFAULT_POINTS


@dataclass(frozen=True, slots=True)
class JobMetrics:
    """The answer to a query. `cursor` is for the next query's `after`, None before the first step; `n_rows` are the
    rows asked for, of which `columns` has the shown ones. `series` are those to show, in order. `best` is the id of the
    checkpoint with the lowest loss on the whole validation file, None without such losses.
    """

    job: Job
    columns: Columns
    series: tuple[str, ...]
    cursor: str | None
    n_steps: int | None
    n_rows: int
    checkpoints: list[Checkpoint]
    best: str | None


def version(context: Context, resource_id: str, job_id: str, query: MetricsQuery, form: str) -> str:
    """A word that changes whenever the answer to the query does, in the given form; takes four look-ups.

    Raises NotFound for the job.
    """
    with context.database.reading() as tx:
        job = jobs.require(tx, resource_id, job_id)
        parts = (events.newest_id(tx, job_id), job.status, checkpoints.mark_of_job(tx, job_id), query, form)
    return hashlib.blake2b(repr(parts).encode(), digest_size=12).hexdigest()


def read(context: Context, cache: MetricsCache, resource_id: str, job_id: str, query: MetricsQuery) -> JobMetrics:
    """The metrics of a job of the resource.

    Raises NotFound for the job; InvalidRequest for an unknown series and a cursor that is none of this job.
    """
    series = _checked_series(query.series)
    with context.database.reading() as tx:
        job = jobs.require(tx, resource_id, job_id)
        if query.after is None:
            part = cache.read(tx, job_id, query.from_step, query.to_step)
        else:
            part = _behind(tx, job_id, query.after).part(query.from_step, query.to_step)
        cursor = events.id_of(tx, part.last_seq) if part.last_seq else query.after
        started = events.data_of_first(tx, job_id, EventCode.TRAINING)
        kept = checkpoints.list_of_job(tx, job_id)
    if not query.series:
        series = tuple(name for name in series if name in FIGURES or name in part.values)
    shown = part
    if query.points is not None and len(part) > query.points:
        shown = part.pick(metric_reduction.kept_rows(part, series, query.points))
    n_steps = None if started is None else started.get("n_steps")
    best = best_checkpoint(kept)
    best_id = None if best is None else best.id
    return JobMetrics(job, shown, series, cursor, n_steps, len(part), kept, best_id)


def csv_lines(metrics: JobMetrics) -> Iterator[bytes]:
    """The rows as CSV in chunks, the header first; a value that was not computed is an empty cell."""
    columns = metrics.columns
    yield (",".join(("step", "at", "tokens", *metrics.series)) + "\n").encode()
    values = [columns.values.get(name) for name in metrics.series]
    tokens = columns.tokens
    for start in range(0, len(columns), _CSV_ROWS):
        stop = min(start + _CSV_ROWS, len(columns))
        cells: list[Sequence[str]] = [
            [str(step) for step in columns.step[start:stop]],
            [f"{at:.3f}" for at in columns.at[start:stop]],
            ["" if value != value else str(int(value)) for value in tokens[start:stop]],
        ]
        for column in values:
            part = () if column is None else column[start:stop]
            cells.append(["" if value != value else repr(value) for value in part] or [""] * (stop - start))
        yield ("\n".join(map(",".join, zip(*cells, strict=True))) + "\n").encode()


def _behind(tx: Connection, job_id: str, cursor: str) -> Columns:
    """The rows behind a cursor, without those before it: whoever polls costs no memory. Raises InvalidRequest."""
    seq = events.seq_of(tx, job_id, cursor)
    if seq is None:
        text = f"after={cursor[:64]!r} is no cursor of this job's metrics; pass the cursor of the answer before."
        raise InvalidRequest("invalid_cursor", text, "after")
    tail = Columns()
    for rows in events.metrics_after(tx, job_id, seq):
        tail.extend(rows)
    return tail


def _checked_series(asked: Sequence[str]) -> tuple[str, ...]:
    """The series asked for, each once, in the order in which they are shown; all for none. Raises InvalidRequest."""
    unknown = [name for name in asked if name not in SERIES]
    if unknown:
        text = f"series names {unknown[0][:64]!r}; there are {', '.join(FIGURES)}, and of preferences "
        raise InvalidRequest("unknown_series", f"{text}{', '.join(REWARDS)}.", "series")
    return tuple(name for name in SERIES if not asked or name in asked)


def best_checkpoint(kept: Sequence[Checkpoint]) -> Checkpoint | None:
    """The one with the lowest loss on the whole validation file, the earliest of equals; None without such losses."""
    judged = [one for one in kept if "full_valid_loss" in one.metrics]
    return min(judged, key=lambda one: one.metrics["full_valid_loss"], default=None)
