"""Which model a call means, and where that model answers."""

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from luthier import __version__
from luthier.core.engine_ports import Address
from luthier.core.errors import NoSpace
from luthier.core.models import Deployment
from luthier.service.context import Context
from luthier.service.models import deployments, model_kinds, models
from luthier.service.models.models import Model
from luthier.service.models.serving_port import ServedModels
from luthier.service.scheduling.admission import QueueKey
from luthier.service.scheduling.engine_calls import EngineCall
from luthier.store.queries import deployments as deployment_rows

LAST_USE_INTERVAL = timedelta(minutes=1)
"""The time of a deployment's last use is written at most this often."""


@dataclass(frozen=True, slots=True)
class Target:
    """The model that a name in a call means, and the deployment of that name, if there is one.

    A deployment's model passed the parity check when it was deployed.
    """

    model: Model
    deployment: Deployment | None

    @property
    def name(self) -> str:
        return self.model.canonical_name if self.deployment is None else self.deployment.name


@dataclass(frozen=True, slots=True)
class Route:
    """A call's target, the address at which its model answers, and the resource that calls it.

    `current_address` gives the address of now; it loads the model again if it must. What `is_background` waits for
    everyone else (`scheduling.background_share`).
    """

    target: Target
    address: Address
    current_address: Callable[[], Awaitable[Address]]
    resource_id: str
    is_background: bool = False

    @property
    def model(self) -> Model:
        return self.target.model

    def engine_call(self, prompt_field: str) -> EngineCall:
        """The call of the engine; `prompt_field` is the caller's field for the prompt."""
        queue_key = QueueKey(self.resource_id, self.target.name, self.is_background)
        return EngineCall(self.address, self.current_address, queue_key, self.model.canonical_name, prompt_field)

    def fingerprint(self) -> str:
        """Names the weights and the software that answer: another one means that a seed may give another answer."""
        identity = f"{__version__} {self.model.base.name} {self.model.canonical_name}"
        return f"fp_{hashlib.sha256(identity.encode()).hexdigest()[:10]}"


def find(context: Context, resource_id: str, name: str, allows_models: bool, embeds: bool | None = False) -> Target:
    """The deployment of that name, or with `allows_models` the model. Records the use of the deployment.

    Where a newer model is not proven yet, the one before it answers. Raises NotFound for an unknown name or a
    deployment without a model that answers, InvalidRequest for an embedding model unless the caller wants one that
    `embeds`, and for any other then; None takes both.
    """
    with context.database.reading() as tx:
        named_deployment = deployment_rows.get(tx, resource_id, name)
        is_ready = named_deployment is not None and named_deployment.served_model is not None
        deployment = named_deployment if is_ready else None
        if deployment is not None:
            model = models.resolve(context, tx, resource_id, str(deployment.served_model))
        elif allows_models:
            model = models.resolve(context, tx, resource_id, name)
        else:
            model = None
        undeployed = None if model else models.resolve(context, tx, resource_id, name)
    if model is None:
        if named_deployment is not None:
            raise deployments.not_ready(named_deployment)
        if undeployed is not None:
            raise deployments.not_deployed(name)
        raise models.not_found(name, "model") if allows_models else deployments.not_found(name)
    target = Target(model, deployment)
    if embeds is not None:
        model_kinds.check(context, model, embeds)
    if deployment is not None:
        _record_use(context, deployment)
    return target


async def route(serving: ServedModels, resource_id: str, target: Target) -> Route:
    """Where the target answers; loads its model if need be, and holds no thread meanwhile.

    Raises Unavailable, UpstreamFailed without parity, and NotFound if the model's files were deleted.
    """
    current_address = partial(serving.address_when_loaded, target.model, target.deployment is not None)
    return Route(target, await current_address(), current_address, resource_id)


def _record_use(context: Context, deployment: Deployment) -> None:
    """Writes the time of a deployment's last use, once a minute at most: an idle deployment is deleted."""
    now = context.now()
    unless_since = now - LAST_USE_INTERVAL
    if deployment.last_used_at <= unless_since:
        # A full disk is no reason not to answer: the next call records its own time.
        with suppress(NoSpace), context.database.writing() as tx:
            deployment_rows.set_used(tx, deployment.resource_id, deployment.name, now, unless_since)
