"""Deployments: a name under which a model answers. Succeeded means that the parity check passed."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from luthier.core import ids
from luthier.core.engine_ports import ParityReport
from luthier.core.errors import Conflict, InvalidRequest, LuthierError, NotFound
from luthier.core.inference.engine_hosts import NO_HOST, HostGone
from luthier.core.models import Deployment, JobError
from luthier.core.states import DeploymentState
from luthier.service import shutdown
from luthier.service.context import Context
from luthier.service.models import deployment_fields, models
from luthier.service.models import serving as servings
from luthier.service.models.serving_port import ServedModels
from luthier.service.tenants import quotas
from luthier.store.db import Connection
from luthier.store.queries import checkpoints, copies, deployments, resources

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeploymentRequest:
    """A deployment as it was requested; rate limits say what `sku_capacity` is a unit of."""

    name: str
    model: str
    model_version: str | None
    sku_name: str
    sku_capacity: int
    tags: Mapping[str, str] | None = None
    """None keeps the present ones."""
    model_source: str | None = None
    """The control plane's id of the resource that the model was copied from."""
    extras: Mapping[str, Any] | None = None
    """Fields that are only stored and shown; None keeps the present ones, without `model`."""


def put(context: Context, resource_id: str, request: DeploymentRequest) -> tuple[Deployment, bool]:
    """Creates the deployment in state Creating, or replaces its model, for `create_waiting` to finish.

    Until then, and if it fails, the model before goes on answering. A put that changes nothing keeps the state. Returns
    the deployment and whether it is new. Raises InvalidRequest and QuotaExceeded.
    """
    deployment_fields.check_name(request.name)
    sku_name = deployment_fields.check_sku(request.sku_name, request.sku_capacity)
    deployment_fields.check_tags(request.tags)
    with context.database.writing() as tx:
        model = models.resolve(context, tx, resource_id, request.model)
        if model is None or not _is_of_source(tx, model, resource_id, request.model_source):
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
            tags=request.tags if request.tags is not None else old.tags if old else {},
            model_source=request.model_source,
            sku_changed_at=old.sku_changed_at if old and old.sku_name == sku_name else context.lifetime_start(now),
            last_used_at=context.lifetime_start(now),
            extras=_extras(old) if request.extras is None else request.extras,
        )
        if old is not None and old.model == new.model and old.state is DeploymentState.SUCCEEDED:
            new = replace(new, state=old.state, parity=old.parity)
        elif old is not None:
            new = replace(new, answering=old.served_model)
        was_tuned = old is not None and checkpoints.find(tx, resource_id, old.model) is not None
        quotas.admit_deployment(
            tx, resource_id, is_new=old is None, is_newly_tuned=model.checkpoint is not None and not was_tuned
        )
        deployments.put(tx, new)
    logger.info("deployment put name=%s resource=%s model=%s", new.name, resource_id, model.logged_id)
    return new, old is None


def update(
    context: Context,
    resource_id: str,
    name: str,
    *,
    sku_name: str | None = None,
    sku_capacity: int | None = None,
    tags: Mapping[str, str] | None = None,
    sku_extras: Mapping[str, Any] | None = None,
) -> Deployment:
    """Changes the given parts of sku and tags; the model keeps answering. Raises NotFound and InvalidRequest."""
    deployment_fields.check_tags(tags)
    with context.database.writing() as tx:
        old = deployments.get(tx, resource_id, name)
        if old is None:
            raise not_found(name)
        now = context.now()
        sku = deployment_fields.check_sku(
            old.sku_name if sku_name is None else sku_name, old.sku_capacity if sku_capacity is None else sku_capacity
        )
        new = replace(
            old,
            sku_name=sku,
            sku_capacity=old.sku_capacity if sku_capacity is None else sku_capacity,
            sku_changed_at=old.sku_changed_at if old.sku_name == sku else context.lifetime_start(now),
            tags=old.tags if tags is None else tags,
            extras={**old.extras, "sku": {**old.extras.get("sku", {}), **(sku_extras or {})}},
            updated_at=now,
        )
        deployments.put(tx, new)
    logger.info("deployment updated name=%s resource=%s", name, resource_id)
    return new


def get_settled(context: Context, resource_id: str, name: str) -> Deployment:
    """The deployment, unless it is being created. Raises Conflict then and if it is missing, as the 2022 data plane."""
    with context.database.reading() as tx:
        deployment = deployments.get(tx, resource_id, name)
    if deployment is None:
        raise Conflict("deployment_not_found", not_found(name).message)
    if deployment.state is DeploymentState.CREATING:
        raise Conflict(
            "deployment_not_settled", f"The deployment {name!r} is still being created. Wait until it has succeeded."
        )
    return deployment


def get(context: Context, resource_id: str, name: str) -> Deployment:
    """One deployment of the resource. Raises NotFound."""
    with context.database.reading() as tx:
        deployment = deployments.get(tx, resource_id, name)
    if deployment is None:
        raise not_found(name)
    return deployment


def list_all(context: Context, resource_id: str) -> list[Deployment]:
    with context.database.reading() as tx:
        return deployments.list_all(tx, resource_id)


def delete(context: Context, serving: ServedModels, resource_id: str, name: str) -> bool:
    """Deletes the deployment; its model is unloaded if no other serves it. False if there was none."""
    with context.database.writing() as tx:
        deployment = deployments.get(tx, resource_id, name)
        if deployment is None:
            return False
        deployments.delete(tx, resource_id, name)
    _release_unused(context, serving, deployment.model, deployment.answering)
    logger.info("deployment deleted name=%s resource=%s", name, resource_id)
    return True


def create_waiting(context: Context, serving: ServedModels, stopping: Callable[[], bool] = shutdown.never) -> int:
    """Loads and checks the model of each deployment in state Creating, until `stopping`; returns their number."""
    with context.database.reading() as tx:
        waiting = deployments.list_creating(tx)
    for deployment in waiting:
        if not stopping():
            _create(context, serving, deployment, stopping)
    return len(waiting)


def not_ready(deployment: Deployment) -> NotFound:
    """The error for a call to a deployment that is not ready or has failed."""
    if deployment.state is DeploymentState.FAILED:
        reason = f" {deployment.error.message}" if deployment.error else ""
        text = f"The API deployment {deployment.name!r} has failed and cannot answer.{reason}"
        return NotFound("deployment_not_found", f"{text} Delete it and deploy a model again.")
    text = f"The API deployment {deployment.name!r} is still being created. Wait until its provisioningState is"
    return NotFound("deployment_not_found", f"{text} Succeeded and try again.")


def not_deployed(model: str) -> NotFound:
    """The error for a call to a model by its own name, if calls must name a deployment."""
    return NotFound(
        "deployment_not_found",
        f"The API deployment {model!r} for this resource does not exist: {model} is a model, and calls name a "
        f"deployment of it. Create one and call it by its name: luthier deployments create NAME --model {model}, or "
        f'PUT .../deployments/NAME of the control plane with {{"properties": {{"model": {{"format": "OpenAI", "name": '
        f'"{model}"}}}}}}.',
    )


def not_found(name: str) -> NotFound:
    return NotFound(
        "deployment_not_found",
        f"The API deployment {name!r} for this resource does not exist. If you created it within the last minute, wait "
        "until its provisioningState is Succeeded and try again.",
    )


def _create(context: Context, serving: ServedModels, deployment: Deployment, stopping: Callable[[], bool]) -> None:
    """Loads the model, checks parity and writes the final state; writes nothing if that fails as the service stops, or
    while no engine host lives or answers: it is tried again.
    """
    report, error = None, None
    try:
        model = models.get(context, deployment.resource_id, deployment.model)
        report = serving.prove(model).report
        if not report.agrees:
            words = servings.differs(model)
            error = JobError("parity_failed", f"{words[0].upper()}{words[1:]} {report.reason}")
    except LuthierError as failure:
        if stopping() or failure.code == NO_HOST or isinstance(failure, HostGone):
            return
        error = JobError(failure.code, failure.message)
    state = DeploymentState.SUCCEEDED if error is None else DeploymentState.FAILED
    with context.database.writing() as tx:
        deployments.finish(tx, deployment, state, _figures(report), error, context.now())
    _release_unused(context, serving, deployment.answering)
    logger.info("deployment ended name=%s resource=%s state=%s", deployment.name, deployment.resource_id, state)


def _release_unused(context: Context, serving: ServedModels, *names: str | None) -> None:
    """Unloads those of the models that no deployment of any resource names."""
    with context.database.reading() as tx:
        unused = [name for name in names if name is not None and not deployments.is_served(tx, name)]
    for name in unused:
        serving.release(name)


def _extras(old: Deployment | None) -> Mapping[str, Any]:
    return {} if old is None else {name: value for name, value in old.extras.items() if name != "model"}


def _figures(report: ParityReport | None) -> dict[str, float] | None:
    """The measured figures of a parity report, as a deployment stores them; None without a report."""
    if report is None:
        return None
    return {name: value for name, value in asdict(report).items() if name not in {"agrees", "reason"}}


def _is_of_source(tx: Connection, model: models.Model, resource_id: str, source: str | None) -> bool:
    """Whether the model was copied from the resource that the caller names; true if none is named."""
    if source is None:
        return True
    parts = ids.account_parts(source)
    resource = resources.of_account(tx, *parts) if parts else None
    if resource is None or model.checkpoint is None:
        return False
    if model.checkpoint.copied_from is not None:
        return copies.is_from(tx, model.checkpoint.id, resource.id)
    return model.checkpoint.resource_id == resource.id
