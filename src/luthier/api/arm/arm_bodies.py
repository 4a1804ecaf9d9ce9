"""Bodies of the control plane's deployments (ARM 2024-10-01; wire-contract.md section 14).

Tools that keep the desired state in a file (Bicep, Terraform) read a deployment back and compare: every accepted
property is stored and read back as it was sent, every other one is an error that names it. Read-only properties may be
sent back as they were read.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from luthier.api.requests.field_types import Text
from luthier.core.errors import InvalidRequest, Unsupported
from luthier.service.models.deployment_fields import MAX_TAG_CHARACTERS, MAX_TAG_KEY_CHARACTERS, MAX_TAGS

_SCALE_SKUS = {"Standard": "Standard", "Manual": "ProvisionedManaged"}
"""The sku that a deprecated scaleType means."""
_UNSUPPORTED = {
    "capacitySettings": "capacity is not reserved for a deployment here",
    "parentDeploymentName": "deployments have no parent here",
    "spilloverDeploymentName": "deployments do not take over each other's requests here",
}

ReadOnly = Annotated[Any, Field(description="Read-only: may be sent back, and has no effect.")]
Short = Annotated[Text, Field(max_length=256)]
Tags = Annotated[
    dict[Text, Text],
    Field(
        json_schema_extra={
            "maxProperties": MAX_TAGS,
            "propertyNames": {"minLength": 1, "maxLength": MAX_TAG_KEY_CHARACTERS},
            "additionalProperties": {"type": "string", "maxLength": MAX_TAG_CHARACTERS},
        }
    ),
]


class _Body(BaseModel):
    """A JSON object in which an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class ModelBody(_Body):
    """ARM `DeploymentModel`: which model to deploy; `source` or `sourceAccount` is where it was copied from."""

    name: Text = Field(min_length=1)
    format: Short = "OpenAI"
    version: Short | None = None
    publisher: Short | None = None
    source: Text | None = None
    sourceAccount: Text | None = None
    callRateLimit: ReadOnly = None


class ScaleSettingsBody(_Body):
    """ARM `DeploymentScaleSettings`, which `sku` has replaced."""

    scaleType: Literal["Standard", "Manual"] | None = None
    capacity: int | None = None
    activeCapacity: ReadOnly = None


class PropertiesBody(_Body):
    """ARM `DeploymentProperties`. `currentCapacity` follows from `sku.capacity`."""

    model: ModelBody
    scaleSettings: ScaleSettingsBody | None = None
    raiPolicyName: Short | None = None
    versionUpgradeOption: (
        Literal["OnceNewDefaultVersionAvailable", "OnceCurrentVersionExpired", "NoAutoUpgrade"] | None
    ) = None
    capacitySettings: dict[str, Any] | None = None
    parentDeploymentName: str | None = None
    spilloverDeploymentName: str | None = None
    provisioningState: ReadOnly = None
    capabilities: ReadOnly = None
    callRateLimit: ReadOnly = None
    rateLimits: ReadOnly = None
    dynamicThrottlingEnabled: ReadOnly = None
    currentCapacity: ReadOnly = None
    servedModel: ReadOnly = None
    parity: ReadOnly = None
    error: ReadOnly = None


class SkuBody(_Body):
    """ARM `Sku`: kind and rate limit of a deployment; in a PATCH what is left out stays as it is."""

    name: str | None = None
    capacity: int | None = None
    tier: Literal["Free", "Basic", "Standard", "Premium", "Enterprise"] | None = None
    size: Short | None = None
    family: Short | None = None

    def stored_fields(self) -> dict[str, Any]:
        """Fields that are stored and read back, and have no effect."""
        return self.model_dump(include={"tier", "size", "family"}, exclude_none=True)


class _Resource(_Body):
    """What every ARM resource has beside its properties. `tags` None: those that it has are kept."""

    tags: Tags | None = None
    id: ReadOnly = None
    name: ReadOnly = None
    type: ReadOnly = None
    etag: ReadOnly = None
    systemData: ReadOnly = None


class DeploymentBody(_Resource):
    """PUT .../deployments/{name}."""

    properties: PropertiesBody
    sku: SkuBody | None = None

    def requested_sku(self) -> tuple[str, int]:
        """Name and capacity, of `sku` or of the older scaleSettings; Standard and 1 where neither has one.

        Raises InvalidRequest if the two capacities differ.
        """
        sku, scale = self.sku or SkuBody(), self.properties.scaleSettings or ScaleSettingsBody()
        if None not in (sku.capacity, scale.capacity) and sku.capacity != scale.capacity:
            raise InvalidRequest(
                "invalid_sku",
                f"sku.capacity is {sku.capacity}, and properties.scaleSettings.capacity is {scale.capacity}. Leave "
                "scaleSettings out: sku has replaced it.",
                "properties.scaleSettings.capacity",
            )
        capacity = scale.capacity if sku.capacity is None else sku.capacity
        return sku.name or _SCALE_SKUS[scale.scaleType or "Standard"], 1 if capacity is None else capacity

    def stored_fields(self) -> dict[str, Any]:
        """What is stored as the deployment's extras and read back as it was sent, by part: model, properties, sku.

        Raises Unsupported for a property that cannot have its effect here.
        """
        properties = self.properties
        for name, reason in _UNSUPPORTED.items():
            if getattr(properties, name) is not None:
                path = f"properties.{name}"
                raise Unsupported("property_not_supported", f"{path}: {reason}. Leave it out.", path)
        model = properties.model.model_dump(
            include={"name", "format", "publisher", "source", "sourceAccount"}, exclude_none=True
        )
        others = properties.model_dump(include={"raiPolicyName", "versionUpgradeOption"}, exclude_none=True)
        if properties.scaleSettings is not None:
            others["scaleSettings"] = properties.scaleSettings.model_dump(
                include={"scaleType", "capacity"}, exclude_none=True
            )
        return {"model": model, "properties": others, "sku": self.sku.stored_fields() if self.sku else {}}


class DeploymentPatchBody(_Resource):
    """PATCH .../deployments/{name} (ARM `PatchResourceTagsAndSku`): what is left out stays as it is."""

    sku: SkuBody | None = None
