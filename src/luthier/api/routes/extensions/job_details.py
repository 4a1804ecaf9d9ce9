"""GET /luthier/jobs/{job_id}/details: the request as it was sent, what each setting became and why, progress, cost."""

from dataclasses import asdict
from typing import Annotated, Any, Literal, Self

from fastapi import Depends
from msgspec import Meta, Struct

from luthier.api.auth import authentication
from luthier.api.dialects import answer
from luthier.api.dialects.answer import Unix
from luthier.api.dialects.report_answers import RunEstimate
from luthier.api.routing.operation import json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.core.states import JobStatus, Method
from luthier.core.training.hyperparameters import Hyperparameters
from luthier.service.job_views import job_details
from luthier.service.job_views.job_actions import Possibility
from luthier.service.job_views.job_details import JobDetails
from luthier.service.job_views.job_settings import Setting

Auto = Literal["auto"]
Value = int | float | str | list[str] | None


class AskedHyperparameters(Struct, kw_only=True):
    """Hyperparameters as they were sent: a number, or "auto" if it was left to the service."""

    n_epochs: int | Auto
    batch_size: int | Auto
    learning_rate_multiplier: float | Auto
    beta: float | Auto

    @classmethod
    def from_asked(cls, asked: Hyperparameters) -> Self:
        """The answer for hyperparameters of which some may be None."""
        return cls(**{name: "auto" if value is None else value for name, value in asdict(asked).items()})


class AskedPatience(Struct, kw_only=True):
    """Early stopping, as it was sent."""

    patience: int


class AskedJob(Struct, kw_only=True):
    """The request that created the job. `seed` is null if none was sent, `hyperparameters` for jobs of older versions.

    `luthier` holds the settings beyond the vendors' own.
    """

    model: str
    training_file: str
    validation_file: str | None
    method: Annotated[str, answer.one_of(Method)]
    seed: int | None
    suffix: str | None
    hyperparameters: AskedHyperparameters | None
    early_stopping: AskedPatience | None
    luthier: dict[str, Any]
    metadata: dict[str, str] | None
    trainingType: str | None
    integrations: list[dict[str, Any]]


class JobModel(Struct, kw_only=True):
    """The weights that the job tunes, and the model that it has become."""

    base_model: str
    parent_model: str | None
    fine_tuned_model: str | None


class SettingAnswer(Struct, kw_only=True):
    """One setting: what was asked for ("auto", or null if nothing was), what it became, and why."""

    name: str
    requested: Value
    value: Annotated[Value, Meta(description="null: not known yet, or none.")]
    reason: str

    @classmethod
    def from_setting(cls, setting: Setting) -> Self:
        return cls(name=setting.name, requested=setting.requested, value=setting.value, reason=setting.reason)


class JobProgress(Struct, kw_only=True):
    """How far the run is, and how fast; null is not known. Speeds are those of the last steps while it runs."""

    step: int
    n_steps: int | None
    epoch: int | None
    n_epochs: int | None
    trained_tokens: int | None
    total_tokens: int | None
    tokens_per_second: float | None
    seconds_per_step: float | None
    seconds_left: float | None
    estimated_finish: Unix | None


class JobCost(Struct, kw_only=True):
    """The price of the tokens trained on so far."""

    price: float
    currency: str
    trained_tokens: int


class JobFault(Struct, kw_only=True):
    """Why the job failed."""

    code: str
    message: str
    param: str | None


class JobAction(Struct, kw_only=True):
    """Whether the caller can do it now; the reason if not. `model` is the one to deploy or to continue from."""

    allowed: bool
    reason: str | None
    model: str | None

    @classmethod
    def from_possibility(cls, possibility: Possibility) -> Self:
        return cls(allowed=possibility.allowed, reason=possibility.reason, model=possibility.model)


class JobDetailsAnswer(Struct, kw_only=True):
    """Everything about one job beside its metrics. `estimate` is what was expected before it ran.

    `actions` has pause, resume, cancel, delete, deploy and continue.
    """

    object: Literal["luthier.job_details"] = "luthier.job_details"
    job_id: str
    status: Annotated[str, answer.one_of(JobStatus)]
    created_at: Unix
    started_at: Unix | None
    finished_at: Unix | None
    requested: AskedJob
    model: JobModel
    settings: list[SettingAnswer]
    progress: JobProgress
    estimate: RunEstimate | None
    cost: Annotated[JobCost | None, Meta(description="null: the operator has set no price.")]
    seconds: float | None
    peak_memory_bytes: int | None
    error: JobFault | None
    actions: dict[str, JobAction]

    @classmethod
    def from_details(cls, details: JobDetails) -> Self:
        """The answer for a job's details."""
        job, progress = details.job, details.progress
        cost = None
        if details.price is not None and details.currency is not None:
            tokens = job.trained_tokens or progress.trained_tokens or 0
            cost = JobCost(price=details.price, currency=details.currency, trained_tokens=tokens)
        estimate = details.estimate
        error = job.error
        return cls(
            job_id=job.id,
            status=str(job.status),
            created_at=answer.unix(job.created_at),
            started_at=answer.unix_or_none(job.started_at),
            finished_at=answer.unix_or_none(job.finished_at),
            requested=_asked(details),
            model=JobModel(
                base_model=job.base_model, parent_model=job.parent_model, fine_tuned_model=job.fine_tuned_model
            ),
            settings=[*map(SettingAnswer.from_setting, details.settings)],
            progress=JobProgress(**asdict(progress), estimated_finish=answer.unix_or_none(job.estimated_finish)),
            estimate=None if estimate is None else _estimate(estimate),
            cost=cost,
            seconds=details.seconds,
            peak_memory_bytes=details.peak_memory_bytes,
            error=None if error is None else JobFault(code=error.code, message=error.message, param=error.param),
            actions={name: JobAction.from_possibility(one) for name, one in details.actions.items()},
        )


def build_router(services: Services) -> Router:
    """The one route of this module, an extension outside of every dialect."""
    router = Router(tag="jobs")
    Caller = Annotated[Principal, Depends(authentication.require_key(services.context))]

    @router.get(
        "/luthier/jobs/{job_id}/details",
        Action.JOBS_READ,
        "Get a job's request, settings, progress, cost, and what can be done with it",
        json_reply(JobDetailsAnswer),
    )
    def get_job_details(job_id: str, caller: Caller) -> object:
        """Each setting comes with what was asked for, what it became, and why."""
        return JobDetailsAnswer.from_details(job_details.read(services.context, caller, job_id))

    return router


def _asked(details: JobDetails) -> AskedJob:
    """The request that created the job, from its row and its first event."""
    job = details.job
    extras: dict[str, Any] = dict(job.extras)
    return AskedJob(
        model=job.requested_model,
        training_file=job.training_file,
        validation_file=job.validation_file,
        method=str(job.method),
        seed=job.seed if details.seed_sent else None,
        suffix=job.suffix,
        hyperparameters=None if details.asked is None else AskedHyperparameters.from_asked(details.asked),
        early_stopping=None if job.early_stop_patience is None else AskedPatience(patience=job.early_stop_patience),
        luthier=extras.get("luthier", {}),
        metadata=extras.get("metadata"),
        trainingType=extras.get("trainingType"),
        integrations=extras.get("integrations", []),
    )


def _estimate(values: Any) -> RunEstimate:
    """The estimate of the job's event; what the event of another version lacks is null."""
    return RunEstimate(**{name: values.get(name) for name in RunEstimate.__struct_fields__})
