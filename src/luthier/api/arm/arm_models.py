"""The models of an account and of a location, as Azure Resource Manager lists them (ARM 2024-10-01)."""

from typing import Annotated, Self

from fastapi import Depends
from msgspec import UNSET, Struct, UnsetType

from luthier.api.arm import arm_names
from luthier.api.arm.arm_answers import CapacityRange, Collection, SystemData
from luthier.api.arm.arm_callers import require_caller_of_path
from luthier.api.auth import authentication
from luthier.api.routing.operation import json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.service.models import deployment_fields, models
from luthier.service.models.models import Model

_VERSION = "1"
"""Of every model: what is read back of a deployment that was created without one."""


class BaseModelName(Struct, kw_only=True):
    """Format, name and version of a base model: from what an alias or a fine-tuned model is made."""

    format: str = "OpenAI"
    name: str
    version: str = _VERSION


class ModelSku(Struct, kw_only=True):
    """A sku under which a model can be deployed, and its capacities."""

    name: str
    capacity: CapacityRange


class AccountModel(Struct, kw_only=True):
    """ARM `AccountModel`. `baseModel` is the base model of an alias or of a fine-tuned model."""

    format: str = "OpenAI"
    name: str
    version: str = _VERSION
    isDefaultVersion: bool = True
    maxCapacity: int = deployment_fields.MAX_CAPACITY
    capabilities: dict[str, str]
    lifecycleStatus: str = "GenerallyAvailable"
    skus: list[ModelSku]
    systemData: SystemData
    baseModel: BaseModelName | UnsetType = UNSET

    @classmethod
    def from_model(cls, model: Model) -> Self:
        """The model as ARM lists it: it can be tuned and called once the base weights are on this machine."""
        ready = "true" if model.ready else "false"
        makes = {"embeddings": ready} if model.base.embeds else {"fineTune": ready, "chatCompletion": ready}
        created = model.created_at.isoformat()
        has_base = model.checkpoint is not None or model.is_alias
        return cls(
            name=model.name,
            capabilities={
                **makes,
                "inference": ready,
                "maxContextToken": str(model.base.context_tokens),
            },
            skus=[ModelSku(name=name, capacity=CapacityRange()) for name in deployment_fields.SKU_NAMES.values()],
            systemData=SystemData(createdAt=created, lastModifiedAt=created),
            baseModel=BaseModelName(name=model.base.name) if has_base else UNSET,
        )


class LocationModel(Struct, kw_only=True):
    """ARM `Model`: a model that every account of the location has."""

    kind: str = "OpenAI"
    skuName: str = "S0"
    model: AccountModel


def build_router(services: Services) -> Router:
    """The routes of models in the control plane."""
    context = services.context
    router = Router(tag="arm")

    @router.get(
        arm_names.ACCOUNT + "/models",
        Action.MODELS_READ,
        "List the models that can be deployed",
        json_reply(Collection[AccountModel]),
    )
    def list_models(caller: Annotated[Principal, Depends(require_caller_of_path(context))]) -> object:
        """Base models, their aliases, and the account's own."""
        every = models.list_all(context, caller.resource.id)
        return Collection(value=[AccountModel.from_model(model) for model in every])

    @router.get(
        arm_names.LOCATION + "/models",
        Action.MODELS_READ,
        "List base models",
        json_reply(Collection[LocationModel]),
    )
    def list_models_of_location(
        subscription: str, caller: Annotated[Principal, Depends(authentication.require_key(context))]
    ) -> object:
        """Base models and their aliases: what every account has."""
        arm_names.require_subscription(subscription, caller.resource)
        base_models = [model for model in models.list_all(context, caller.resource.id) if model.checkpoint is None]
        return Collection(value=[LocationModel(model=AccountModel.from_model(model)) for model in base_models])

    return router
