"""Deployments that end by themselves: a developer's after a day, one of a tuned model that nobody calls after weeks."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from luthier.core.models import Deployment
from luthier.service.context import Context
from luthier.service.deployments import DEVELOPER_SKUS
from luthier.service.serving import Serving
from luthier.store import deployments
from luthier.store.db import Connection

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long deployments stay; zero is for ever. The defaults are Azure's (contract section 14)."""

    developer: timedelta = timedelta(hours=24)
    idle: timedelta = timedelta(days=15)


def retire(context: Context, serving: Serving, lifetimes: Lifetimes) -> list[Deployment]:
    """Deletes the deployments whose time is over and returns them; their models stay and can be deployed again."""
    now = context.now()
    with context.database.reading() as tx:
        if not _expired(tx, lifetimes, now):
            return []
    with context.database.writing() as tx:
        gone = _expired(tx, lifetimes, now)  # again: a call may have come in between
        for deployment in gone:
            deployments.delete(tx, deployment.resource_id, deployment.name)
        unused = {deployment.model for deployment in gone if not deployments.is_served(tx, deployment.model)}
    for model in unused:
        serving.release(model)
    for deployment in gone:
        logger.info(
            "deployment retired name=%s resource=%s sku=%s last_used=%s",
            deployment.name,
            deployment.resource_id,
            deployment.sku_name,
            deployment.last_used_at.isoformat(),
        )
    return gone


def _expired(tx: Connection, lifetimes: Lifetimes, now: datetime) -> list[Deployment]:
    return deployments.list_expired(
        tx,
        DEVELOPER_SKUS,
        now - lifetimes.developer if lifetimes.developer else None,
        now - lifetimes.idle if lifetimes.idle else None,
    )
