"""GET /luthier/jobs/{job_id}/metrics: the figures of a job's steps as columns, for charts and notebooks."""

import math
from array import array
from collections.abc import Iterable
from typing import Annotated, Literal, Self

import msgspec
from fastapi import Depends, Query, Request
from fastapi.responses import Response
from msgspec import UNSET, Meta, Struct, UnsetType

from luthier.api.auth import authentication
from luthier.api.dialects import answer
from luthier.api.dialects.answer import Figures, Unix
from luthier.api.routing import json_schema as js
from luthier.api.routing.operation import JSON, Reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.api.streaming.downloads import Download
from luthier.core.models import Checkpoint, Principal
from luthier.core.roles import Action
from luthier.core.states import JobStatus
from luthier.service.job_views import job_metrics
from luthier.service.job_views.job_metrics import DEFAULT_POINTS, JobMetrics, MetricsQuery

PATH = "/luthier/jobs/{job_id}/metrics"
CSV = "text/csv"
MAX_POINTS = 20_000

Column = list[float | None]
Series = Column | UnsetType


class MetricsCheckpoint(Struct, kw_only=True):
    """A checkpoint of the job; `is_best` marks the one with the lowest loss on the whole validation file."""

    step: int
    id: str
    model: str
    created_at: Unix
    is_best: bool
    metrics: Figures

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, best: str | None) -> Self:
        """The answer for a checkpoint; `best` is the id of the best one."""
        return cls(
            step=checkpoint.step,
            id=checkpoint.id,
            model=checkpoint.model,
            created_at=answer.unix(checkpoint.created_at),
            is_best=checkpoint.id == best,
            metrics=dict(checkpoint.metrics),
        )


class JobMetricsAnswer(Struct, kw_only=True):
    """Columns of equal length, a row per step; null is a value that was not computed at that step.

    A series that was not asked for is left out, and one of preferences where the job has none.
    """

    object: Literal["luthier.job_metrics"] = "luthier.job_metrics"
    job_id: str
    status: Annotated[str, answer.one_of(JobStatus)]
    cursor: Annotated[str | None, Meta(description="For `after` of the next call; null before the first step.")]
    n_steps: Annotated[int | None, Meta(description="Steps of the whole run; null before the data is loaded.")]
    n_rows: Annotated[int, Meta(description="Rows that were asked for; if `reduced`, the columns have fewer.")]
    reduced: bool
    step: list[int]
    at: Annotated[list[float], Meta(description="Unix seconds.")]
    tokens: Annotated[list[int | None], Meta(description="Trained tokens up to each step, in all epochs.")]
    train_loss: Series = UNSET
    train_mean_token_accuracy: Series = UNSET
    valid_loss: Series = UNSET
    valid_mean_token_accuracy: Series = UNSET
    full_valid_loss: Series = UNSET
    full_valid_mean_token_accuracy: Series = UNSET
    learning_rate: Series = UNSET
    gradient_norm: Annotated[Series, Meta(description="2-norm before clipping.")] = UNSET
    train_reward_accuracy: Series = UNSET
    train_reward_margin: Series = UNSET
    train_reward_chosen: Series = UNSET
    train_reward_rejected: Series = UNSET
    valid_reward_accuracy: Series = UNSET
    valid_reward_margin: Series = UNSET
    valid_reward_chosen: Series = UNSET
    valid_reward_rejected: Series = UNSET
    full_valid_reward_accuracy: Series = UNSET
    full_valid_reward_margin: Series = UNSET
    full_valid_reward_chosen: Series = UNSET
    full_valid_reward_rejected: Series = UNSET
    checkpoints: list[MetricsCheckpoint]

    @classmethod
    def from_metrics(cls, metrics: JobMetrics) -> Self:
        """The answer for a job's metrics."""
        columns = metrics.columns
        none = array("d", [math.nan]) * len(columns)
        series: dict[str, Column] = {name: list(columns.values.get(name, none)) for name in metrics.series}
        return cls(
            job_id=metrics.job.id,
            status=str(metrics.job.status),
            cursor=metrics.cursor,
            n_steps=metrics.n_steps,
            n_rows=metrics.n_rows,
            reduced=len(columns) < metrics.n_rows,
            step=list(columns.step),
            at=[round(at, 3) for at in columns.at],
            tokens=[None if math.isnan(value) else int(value) for value in columns.tokens],
            checkpoints=[MetricsCheckpoint.from_checkpoint(one, metrics.best) for one in metrics.checkpoints],
            **series,  # type: ignore[arg-type]  # msgspec encodes NaN as null
        )


def build_router(services: Services) -> Router:
    """The one route of this module, an extension outside of every dialect."""
    router = Router(tag="jobs")
    Caller = Annotated[Principal, Depends(authentication.require_key(services.context))]

    @router.get(
        PATH,
        Action.JOBS_READ,
        "Get the metrics of a job's steps as columns",
        Reply(content={JSON: JobMetricsAnswer, CSV: js.TEXT}, required_headers=("ETag",)),
        Reply(status=304, required_headers=("ETag",)),
        errors=(400,),
        parameters=(js.header("If-None-Match", "304 if the answer's ETag is still this one."),),
    )
    def get_job_metrics(
        job_id: str,
        request: Request,
        caller: Caller,
        after: Annotated[str | None, Query(max_length=64)] = None,
        from_step: Annotated[int | None, Query(ge=0, le=2**53)] = None,
        to_step: Annotated[int | None, Query(ge=0, le=2**53)] = None,
        points: Annotated[int, Query(ge=10, le=MAX_POINTS)] = DEFAULT_POINTS,
        series: Annotated[str, Query(max_length=1024)] = "",
        format: Literal["json", "csv"] | None = None,
    ) -> Response:
        """Rows behind the cursor `after`, or from `from_step` to `to_step`; `series` are names with commas between.

        JSON has about `points` rows: of each series the extremes stay, of the whole validation file every value. CSV
        has all rows.
        """
        is_csv = format == "csv" or (format is None and _wants_csv(request.headers.get("accept", "")))
        names = tuple(name for name in series.split(",") if name)
        query = MetricsQuery(after or None, from_step, to_step, names, None if is_csv else points)
        return _answer(request, services, caller, job_id, query, is_csv=is_csv)

    return router


def _answer(
    request: Request, services: Services, caller: Principal, job_id: str, query: MetricsQuery, *, is_csv: bool
) -> Response:
    """The metrics as JSON or CSV, or 304 where the caller has them, which computes none."""
    context, own = services.context, caller.resource.id
    etag = f'"{job_metrics.version(context, own, job_id, query, CSV if is_csv else JSON)}"'
    headers = {"ETag": etag, "Cache-Control": "no-cache", "Vary": "Accept"}
    if etag in _tags(request.headers.getlist("if-none-match")):
        return Response(status_code=304, headers=headers)

    def read() -> JobMetrics:
        return job_metrics.read(context, services.job_metrics, own, job_id, query)

    def encoded() -> bytes:
        return msgspec.json.encode(JobMetricsAnswer.from_metrics(read()))

    if not is_csv:
        # What is behind a cursor is small, and hardly asked for twice.
        body = encoded() if query.after is not None else services.metrics_answers.get(f"{job_id} {etag}", encoded)
        return Response(body, media_type=JSON, headers=headers)
    metrics = read()
    headers["Content-Disposition"] = f'attachment; filename="{metrics.job.id}-metrics.csv"'
    credentials = authentication.credentials_of(request)
    chunks = job_metrics.csv_lines(metrics)
    return Download(chunks, context, services.rights, credentials, status=200, kind=CSV, headers=headers)


def _wants_csv(accept: str) -> bool:
    """Whether an Accept header names CSV and not JSON."""
    return CSV in accept and JSON not in accept


def _tags(values: Iterable[str]) -> set[str]:
    """The entity tags of If-None-Match, which compares weakly."""
    return {tag.strip().removeprefix("W/") for value in values for tag in value.split(",")}
