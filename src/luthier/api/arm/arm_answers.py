"""Deployments, skus, lists and errors as Azure Resource Manager sends them (ARM 2024-10-01).

Field names are ARM's own; a field that is UNSET is left out. Accounts and models are beside their routes.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

from luthier.api.arm import arm_names
from luthier.api.dialects.answer import unset_if_none
from luthier.api.dialects.error_answers import Message
from luthier.core.errors import LuthierError, Unauthenticated
from luthier.core.models import Deployment, Resource
from luthier.core.states import DeploymentState
from luthier.service.models import deployment_fields

T = TypeVar("T")
_CODES = {
    "invalid_api_key": "InvalidAuthenticationToken",
    "missing_api_key": "AuthenticationFailed",
    "deployment_not_found": "DeploymentNotFound",
    "deployment_model_not_found": "DeploymentModelNotSupported",
    "resource_not_found": "ResourceNotFound",
    "missing_api_version": "MissingApiVersionParameter",
    "unknown_field": "InvalidRequestContent",
    "missing_field": "InvalidRequestContent",
    "invalid_value": "InvalidRequestContent",
    "invalid_json": "InvalidRequestContent",
}


class Collection(Struct, Generic[T], kw_only=True):
    """One page of a list; `nextLink` is the URL of the next page, left out of the last."""

    value: list[T]
    nextLink: str | UnsetType = UNSET


class ArmErrorDetail(Struct, kw_only=True):
    """One further finding under an error; `target` is the path of the field, null if it is about none."""

    code: str
    message: str
    target: str | None


class ArmErrorBody(Struct, kw_only=True):
    """An error: ARM's code, the message, and the path of the field that it is about."""

    code: str
    message: Message
    target: str | UnsetType = UNSET
    details: list[ArmErrorDetail] | UnsetType = UNSET


class ArmError(Struct, kw_only=True):
    """ARM's error envelope."""

    error: ArmErrorBody

    @classmethod
    def from_error(cls, error: LuthierError) -> Self:
        """The error with ARM's code where ARM has one, else with ours in CamelCase.

        A 401 also says how the key is sent here.
        """
        code = _CODES.get(error.code) or "".join(word.capitalize() for word in error.code.split("_"))
        message = error.message
        if isinstance(error, Unauthenticated):
            message += " The same key opens the control plane: send it as `Authorization: Bearer KEY` or `api-key`."
        details = [
            ArmErrorDetail(code=_CODES.get(detail.code, detail.code), message=detail.message, target=detail.param)
            for detail in error.details
        ]
        body = ArmErrorBody(code=code, message=message, target=unset_if_none(error.param), details=details or UNSET)
        return cls(error=body)


class SystemData(Struct, kw_only=True):
    """When a resource was created and last changed, in ISO 8601."""

    createdAt: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
    lastModifiedAt: Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


class DeploymentSku(Struct, kw_only=True):
    """Kind and rate limit of a deployment; the setting `capacity_tokens` is what one unit of capacity allows.

    The other fields have no effect.
    """

    name: str
    capacity: int
    tier: str | UnsetType = UNSET
    size: str | UnsetType = UNSET
    family: str | UnsetType = UNSET


class DeploymentModel(Struct, kw_only=True):
    """The model that a deployment was asked to serve, as it was asked; `source` is the account it was copied from."""

    format: str
    name: str
    version: str
    source: str | UnsetType = UNSET
    publisher: str | UnsetType = UNSET
    sourceAccount: str | UnsetType = UNSET


class ScaleSettings(Struct, kw_only=True):
    """ARM `DeploymentScaleSettings`, the predecessor of the sku; sent only if the caller sent it."""

    scaleType: str | UnsetType = UNSET
    capacity: int | UnsetType = UNSET


class DeploymentFailure(Struct, kw_only=True):
    """Why a deployment failed."""

    code: str
    message: str


class DeploymentProperties(Struct, kw_only=True):
    """A deployment's model and state.

    `parity` compares the engine's log-probabilities with the trainer's, once they are checked; `error` says why it
    failed.
    """

    model: DeploymentModel
    servedModel: Annotated[str, Meta(description="The name of the weights that answer.")]
    provisioningState: DeploymentState
    versionUpgradeOption: str
    capabilities: dict[str, str]
    currentCapacity: int
    parity: Annotated[dict[str, float], Meta(description="How closely it answers as trained.")] | UnsetType = UNSET
    error: DeploymentFailure | UnsetType = UNSET
    raiPolicyName: str | UnsetType = UNSET
    scaleSettings: ScaleSettings | UnsetType = UNSET


class ArmDeployment(Struct, kw_only=True):
    """ARM `Deployment`: a name under which a model answers, read back as it was written."""

    id: str
    type: Literal["Microsoft.CognitiveServices/accounts/deployments"] = arm_names.DEPLOYMENT_TYPE
    name: str
    tags: dict[str, str]
    sku: DeploymentSku
    properties: DeploymentProperties
    systemData: SystemData
    etag: str

    @classmethod
    def from_deployment(cls, resource: Resource, deployment: Deployment, embeds: bool = False) -> Self:
        """The deployment of a resource; what its caller sent (its `extras`) is laid over our own values.

        `embeds` is whether its model makes embeddings. The etag changes with each change of the deployment.
        """
        sent: Any = {"model": {}, "properties": {}, "sku": {}} | dict(deployment.extras)
        sku = {"name": deployment.sku_name, "capacity": deployment.sku_capacity} | sent["sku"]
        return cls(
            id=f"{arm_names.path_of(resource)}/{deployment.name}",
            name=deployment.name,
            tags=dict(deployment.tags),
            sku=DeploymentSku(**sku),
            properties=_properties(deployment, sent["model"], sent["properties"], embeds),
            systemData=SystemData(
                createdAt=deployment.created_at.isoformat(), lastModifiedAt=deployment.updated_at.isoformat()
            ),
            etag=f'"{int(deployment.updated_at.timestamp() * 1e6):x}"',
        )


def _properties(
    deployment: Deployment, sent_model: Mapping[str, Any], sent: Mapping[str, Any], embeds: bool
) -> DeploymentProperties:
    """The properties: ours, and over them those that the caller sent, so that a template compares as equal.

    `sent_model` and `sent` are parts of the deployment's extras. A sent scaleSettings shows the present capacity.
    """
    model: dict[str, Any] = {"format": "OpenAI", "name": deployment.model, "version": deployment.model_version or "1"}
    if deployment.model_source is not None and "sourceAccount" not in sent_model:
        model["source"] = deployment.model_source
    others = {"versionUpgradeOption": "NoAutoUpgrade"} | dict(sent)
    scale = others.pop("scaleSettings", None)
    if scale is not None:
        if "capacity" in scale:
            scale = scale | {"capacity": deployment.sku_capacity}
        others["scaleSettings"] = ScaleSettings(**scale)
    error = deployment.error
    return DeploymentProperties(
        model=DeploymentModel(**(model | dict(sent_model))),
        servedModel=deployment.served_model or deployment.model,
        provisioningState=deployment.state,
        capabilities={"embeddings" if embeds else "chatCompletion": "true"},
        currentCapacity=deployment.sku_capacity,
        parity=UNSET if deployment.parity is None else dict(deployment.parity),
        error=UNSET if error is None else DeploymentFailure(code=error.code, message=error.message),
        **others,
    )


class SkuName(Struct, kw_only=True):
    """The name of a sku of an account or a deployment."""

    name: str
    tier: str | UnsetType = UNSET


class CapacityRange(Struct, kw_only=True):
    """The capacities that a deployment can have; the setting `capacity_tokens` says what one unit allows."""

    minimum: int = 1
    maximum: int = deployment_fields.MAX_CAPACITY
    step: int = 1
    default: int = 1


class ResourceSku(Struct, kw_only=True):
    """ARM `ResourceSku`: a sku that a type of resource can have; only deployments have a capacity."""

    resourceType: str
    sku: SkuName
    capacity: CapacityRange | UnsetType = UNSET
