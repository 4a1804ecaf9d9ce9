"""Deployments: a name under which a model answers. Succeeded means that the proof of served = trained held."""

import logging
import re
from dataclasses import asdict, dataclass

from luthier.core.errors import InvalidRequest, LuthierError, NotFound
from luthier.core.models import Deployment, JobError
from luthier.core.ports import ParityReport
from luthier.core.states import DeploymentState
from luthier.service import models, quotas
from luthier.service.context import Context
from luthier.service.serving import Serving
from luthier.store import checkpoints, deployments

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SKUS = (
    "Standard",
    "GlobalStandard",
    "DataZoneStandard",
    "ProvisionedManaged",
    "GlobalProvisionedManaged",
    "DataZoneProvisionedManaged",
    "GlobalBatch",
    "DataZoneBatch",
    "Developer",
    "DeveloperTier",
)
SKU_NAMES = {name.lower(): name for name in _SKUS}
"""Spellings are compared without regard to case, as Azure does (contract section 14)."""


@dataclass(frozen=True, slots=True)
class DeploymentRequest:
    name: str
    model: str
    model_version: str | None
    sku_name: str
    sku_capacity: int


def put(context: Context, resource_id: str, request: DeploymentRequest) -> tuple[Deployment, bool]:
    """Creates the deployment or puts another model under its name; returns it and whether it is new.

    The answer comes at once in state Creating; `create_waiting` ends it. A put that changes nothing changes no state.
    """
    sku_name = _check(request)
    with context.database.writing() as tx:
        model = models.resolve(context, tx, resource_id, request.model)
        if model is None:
            raise InvalidRequest(
                "deployment_model_not_found",
                f"There is no model {request.model!r} to deploy. Base models, fine-tuned models and checkpoints of "
                "this resource can be deployed; GET .../models lists them.",
                "properties.model.name",
            )
        old = deployments.get(tx, resource_id, request.name)
        now = context.now()
        new = Deployment(
            name=request.name,
            resource_id=resource_id,
            model=model.canonical_name,
            model_version=request.model_version,
            sku_name=sku_name,
            sku_capacity=request.sku_capacity,
            state=DeploymentState.CREATING,
            parity=None,
            error=None,
            created_at=old.created_at if old else now,
            updated_at=now,
        )
        if old is not None and old.model == new.model and old.state is DeploymentState.SUCCEEDED:
            new = Deployment(**{**asdict(new), "state": old.state, "parity": old.parity})
        was_tuned = old is not None and checkpoints.find(tx, resource_id, old.model) is not None
        quotas.admit_deployment(
            tx, resource_id, is_new=old is None, is_newly_tuned=model.checkpoint is not None and not was_tuned
        )
        deployments.put(tx, new)
    logger.info("deployment put name=%s resource=%s model=%s", new.name, resource_id, new.model)
    return new, old is None


def get(context: Context, resource_id: str, name: str) -> Deployment:
    with context.database.reading() as tx:
        deployment = deployments.get(tx, resource_id, name)
    if deployment is None:
        raise not_found(name)
    return deployment


def list_all(context: Context, resource_id: str) -> list[Deployment]:
    with context.database.reading() as tx:
        return deployments.list_all(tx, resource_id)


def delete(context: Context, serving: Serving, resource_id: str, name: str) -> bool:
    """Deletes the deployment; the model stays, unloaded if nothing else serves it. False where there was none."""
    with context.database.writing() as tx:
        deployment = deployments.get(tx, resource_id, name)
        if deployment is None:
            return False
        deployments.delete(tx, resource_id, name)
        is_used = bool(deployments.names_using(tx, resource_id, [deployment.model]))
    if not is_used:
        serving.release(deployment.model)
    logger.info("deployment deleted name=%s resource=%s", name, resource_id)
    return True


def create_waiting(context: Context, serving: Serving) -> int:
    """Brings every deployment in state Creating to its end; returns how many there were."""
    with context.database.reading() as tx:
        waiting = deployments.list_creating(tx)
    for deployment in waiting:
        _create(context, serving, deployment)
    return len(waiting)


def not_found(name: str) -> NotFound:
    return NotFound(
        "deployment_not_found",
        f"The API deployment {name!r} for this resource does not exist. If you created it within the last minute, wait "
        "until its provisioningState is Succeeded and try again.",
    )


def _create(context: Context, serving: Serving, deployment: Deployment) -> None:
    report, error = None, None
    try:
        report = serving.prove(models.get(context, deployment.resource_id, deployment.model))
        if not report.agrees:
            error = JobError("parity_failed", f"What the engine answers is not what was trained. {report.reason}")
    except LuthierError as problem:
        error = JobError(problem.code, problem.message)
    state = DeploymentState.SUCCEEDED if error is None else DeploymentState.FAILED
    with context.database.writing() as tx:
        deployments.finish(tx, deployment, state, _figures(report), error, context.now())
    logger.info("deployment ended name=%s resource=%s state=%s", deployment.name, deployment.resource_id, state)


def _figures(report: ParityReport | None) -> dict[str, float] | None:
    if report is None:
        return None
    return {name: value for name, value in asdict(report).items() if name not in {"agrees", "reason"}}


def _check(request: DeploymentRequest) -> str:
    if not _NAME.fullmatch(request.name):
        raise InvalidRequest(
            "invalid_deployment_name",
            "A deployment's name has 1 to 64 letters, digits, '-', '_' and '.', and begins with a letter or digit.",
            "name",
        )
    if request.sku_capacity < 1:
        raise InvalidRequest("invalid_sku", "sku.capacity must be 1 or more (thousands of tokens a minute).", "sku")
    sku_name = SKU_NAMES.get(request.sku_name.lower())
    if sku_name is None:
        raise InvalidRequest("invalid_sku", f"sku.name must be one of {', '.join(_SKUS)}.", "sku.name")
    return sku_name
