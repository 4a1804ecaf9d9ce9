"""Expiry of deployments: developer ones after a day, those of a tuned model without calls after weeks."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from luthier.core.models import Deployment
from luthier.service.context import Context
from luthier.service.models.deployment_fields import DEVELOPER_SKUS
from luthier.service.models.serving_port import ServedModels
from luthier.store.db import Connection
from luthier.store.queries import deployments

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Time to live of deployments; zero is for ever. The defaults are Azure's (wire-contract.md section 14)."""

    developer: timedelta = timedelta(hours=24)
    idle: timedelta = timedelta(days=15)


def delete_expired(context: Context, serving: ServedModels, lifetimes: Lifetimes) -> list[Deployment]:
    """Deletes expired deployments and returns them; their models are kept and can be deployed again.

    A model that no deployment serves any more is unloaded from its engine.
    """
    now = context.deletion_time()
    with context.database.reading() as tx:
        if not _expired(tx, lifetimes, now):
            return []
    with context.database.writing() as tx:
        expired = _expired(tx, lifetimes, now)  # again: a call may have come in between
        for deployment in expired:
            deployments.delete(tx, deployment.resource_id, deployment.name)
        named = {model for deployment in expired for model in (deployment.model, deployment.answering) if model}
        unused = {model for model in named if not deployments.is_served(tx, model)}
    for model in unused:
        serving.release(model)
    for deployment in expired:
        logger.info(
            "deployment expired name=%s resource=%s sku=%s last_used=%s",
            deployment.name,
            deployment.resource_id,
            deployment.sku_name,
            deployment.last_used_at.isoformat(),
        )
    return expired


def expires_at(deployment: Deployment, is_tuned: bool, lifetimes: Lifetimes) -> datetime | None:
    """When the deployment is deleted if nobody calls it until then; None: never."""
    times = []
    if deployment.sku_name in DEVELOPER_SKUS and lifetimes.developer:
        times.append(deployment.sku_changed_at + lifetimes.developer)
    if is_tuned and lifetimes.idle:
        times.append(deployment.last_used_at + lifetimes.idle)
    return min(times, default=None)


def _expired(tx: Connection, lifetimes: Lifetimes, now: datetime) -> list[Deployment]:
    """The deployments of all resources that have expired at `now`; a lifetime of zero switches its rule off."""
    return deployments.list_expired(
        tx,
        DEVELOPER_SKUS,
        now - lifetimes.developer if lifetimes.developer else None,
        now - lifetimes.idle if lifetimes.idle else None,
    )
