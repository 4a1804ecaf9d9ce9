"""POST /luthier/estimate: what a job would take and what its settings would become, before it is created."""

from dataclasses import asdict
from typing import Annotated, Literal, Self

from fastapi import Depends
from msgspec import Meta, Struct

from luthier.api.auth import authentication
from luthier.api.dialects.report_answers import RunEstimate
from luthier.api.requests.file_and_job_bodies import JobBody
from luthier.api.routes.extensions.job_details import SettingAnswer
from luthier.api.routing.operation import json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.service.files import training_estimate
from luthier.service.job_views import job_estimate
from luthier.service.job_views.job_estimate import EstimateRequest, JobEstimate

_EXAMPLE = {"model": "smollm2-135m-instruct", "training_file": "file-" + "1" * 32}


class JobEstimateAnswer(Struct, kw_only=True):
    """What a job would take. `run` and `words` are null if its tokens cannot be counted here."""

    object: Literal["luthier.estimate"] = "luthier.estimate"
    model: Annotated[str, Meta(description="The base model whose weights would be tuned.")]
    n_examples: int
    settings: list[SettingAnswer]
    run: RunEstimate | None
    words: str | None

    @classmethod
    def from_estimate(cls, found: JobEstimate) -> Self:
        """The answer for an estimate."""
        return cls(
            model=found.base_model,
            n_examples=found.n_examples,
            settings=[*map(SettingAnswer.from_setting, found.settings)],
            run=None if found.run is None else RunEstimate(**asdict(found.run)),
            words=None if found.run is None else training_estimate.in_words(found.run),
        )


def build_router(services: Services) -> Router:
    """The one route of this module, an extension outside of every dialect."""
    router = Router(tag="jobs")
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]

    @router.post(
        "/luthier/estimate",
        Action.JOBS_READ,
        "Estimate a job before it is created",
        json_reply(JobEstimateAnswer),
        errors=(404, 413),
        example=_EXAMPLE,
    )
    def estimate_job(body: JobBody, caller: Caller) -> object:
        """The body of a job's creation; nothing is created. 413 for a training file above 64 MiB."""
        request = EstimateRequest(
            model=body.model,
            training_file=body.training_file,
            validation_file=body.validation_file or None,
            hyperparameters=body.chosen_hyperparameters(),
            method=body.training_method(),
            recipe=body.recipe(),
            seed=body.seed,
            patience=body.early_stopping.patience if body.early_stopping else None,
        )
        return JobEstimateAnswer.from_estimate(job_estimate.estimate(context, caller.resource.id, request))

    return router
