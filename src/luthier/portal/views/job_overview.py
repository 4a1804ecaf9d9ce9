"""A job's overview: facts, checkpoints, figures as rows."""

import math
from dataclasses import dataclass

from markupsafe import Markup

from luthier.core.models import Checkpoint
from luthier.portal.web import rendering
from luthier.service.job_views.job_details import JobDetails
from luthier.service.job_views.job_metrics import JobMetrics
from luthier.service.overviews.comparison import ComparedJob

CAPACITY = 1
"""Of a deployment that is made from a job's page: one unit of the rate limit, as in Azure's documents."""

Facts = list[tuple[str, str | Markup]]


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """One checkpoint as the table shows it; figures are None where they were not computed."""

    id: str
    model: str
    short: str
    step: int
    is_best: bool
    train_loss: float | None
    valid_loss: float | None
    accuracy: float | None


def facts(details: JobDetails) -> Facts:
    """Names and values beside the progress bar; what is not known is left out."""
    job, progress = details.job, details.progress
    epoch = f"{progress.epoch} of {progress.n_epochs}" if progress.epoch and progress.n_epochs else None
    cost = None if details.price is None else f"{details.price:,.4f} {details.currency}"
    took = (job.finished_at - job.started_at).total_seconds() if job.finished_at and job.started_at else None
    known: list[tuple[str, str | Markup | None]] = [
        ("Epoch", epoch),
        ("Time left", _text(rendering.duration, progress.seconds_left)),
        ("Ready at", rendering.moment(job.estimated_finish) if progress.seconds_left is not None else None),
        ("Took", _text(rendering.duration, took)),
        ("Tokens trained", _text(rendering.count, progress.trained_tokens)),
        ("Tokens in all", _text(rendering.count, progress.total_tokens)),
        ("Tokens per second", _text(rendering.count, progress.tokens_per_second)),
        ("Seconds per step", _text(rendering.figure, progress.seconds_per_step)),
        ("Cost so far", cost),
        ("Peak memory", _text(rendering.size, details.peak_memory_bytes)),
    ]
    return [(name, value) for name, value in known if value is not None]


def checkpoint_rows(compared: ComparedJob) -> list[CheckpointRow]:
    """The job's checkpoints, newest first; the best one is marked if there is a choice."""
    best = compared.best if len(compared.checkpoints) > 1 else None
    return [_checkpoint(one, best) for one in reversed(compared.checkpoints)]


def figure_rows(metrics: JobMetrics, limit: int) -> tuple[list[str], list[list[float | None]], int | None]:
    """The names of the columns, at most `limit` rows of values, and the step that the next page begins with."""
    columns = metrics.columns
    names = [name for name in metrics.series if name in columns.values]
    number = min(limit, len(columns))
    values = [columns.step[:number], *(columns.values[name][:number] for name in names)]
    rows = [[None if math.isnan(value) else float(value) for value in row] for row in zip(*values, strict=True)]
    return ["step", *names], rows, columns.step[number] if len(columns) > number else None


def _checkpoint(one: Checkpoint, best: Checkpoint | None) -> CheckpointRow:
    """One row; the validation figures are those of the whole file."""
    metrics = one.metrics
    return CheckpointRow(
        id=one.id,
        model=one.model,
        short=f"Step {one.step}",
        step=one.step,
        is_best=best is not None and one.id == best.id,
        train_loss=metrics.get("train_loss"),
        valid_loss=metrics.get("full_valid_loss"),
        accuracy=metrics.get("full_valid_mean_token_accuracy", metrics.get("train_mean_token_accuracy")),
    )


def _text(words: object, value: float | None) -> str | None:
    """The value in words; None stays None."""
    assert callable(words)
    return None if value is None else str(words(value))
