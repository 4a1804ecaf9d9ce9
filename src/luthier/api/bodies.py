"""Bodies of requests as they arrive, in every shape that real clients send; unknown fields are named and refused."""

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from luthier.core.errors import InvalidRequest, Unsupported
from luthier.core.hyperparameters import Hyperparameters


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


def _auto_or_number(value: object) -> object:
    """None for "auto", -1 and null, which all mean that the service chooses (contract section 6)."""
    if isinstance(value, bool):
        raise ValueError('must be a number or "auto"')
    if value is None or value in ("auto", -1):
        return None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError('must be a number or "auto"')
    return value


Count = Annotated[int | None, BeforeValidator(_auto_or_number)]
Rate = Annotated[float | None, BeforeValidator(_auto_or_number)]


class HyperparametersBody(_Body):
    n_epochs: Count = None
    batch_size: Count = None
    learning_rate_multiplier: Rate = None
    prompt_loss_weight: float | None = None


class SupervisedBody(_Body):
    hyperparameters: HyperparametersBody | None = None


class MethodBody(_Body):
    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: SupervisedBody | None = None
    dpo: dict[str, Any] | None = None
    reinforcement: dict[str, Any] | None = None


class JobBody(_Body):
    """POST /fine_tuning/jobs. `trainingType` and `prompt_loss_weight` are extras that Azure's callers send."""

    model: str = Field(min_length=1)
    training_file: str = Field(min_length=1)
    validation_file: str | None = None
    hyperparameters: HyperparametersBody | None = None
    method: MethodBody | None = None
    seed: int | None = None
    suffix: str | None = None
    integrations: list[dict[str, Any]] | None = None
    metadata: dict[str, str] | None = Field(default=None, max_length=16)
    trainingType: str | int | None = None
    prompt_loss_weight: float | None = None

    def asked(self) -> Hyperparameters:
        """Hyperparameters of `method` where they are given, else those of the root. Raises Unsupported."""
        if self.method is not None and self.method.type != "supervised":
            raise Unsupported(
                "method_not_supported",
                f"method.type {self.method.type!r} cannot be trained here yet; use 'supervised' or leave method out.",
                "method.type",
            )
        if self.integrations:
            raise Unsupported(
                "integrations_not_supported", "integrations are not supported yet; leave them out.", "integrations"
            )
        method = self.method.supervised.hyperparameters if self.method and self.method.supervised else None
        root = self.hyperparameters or HyperparametersBody()
        chosen = method or root
        for weight in (self.prompt_loss_weight, root.prompt_loss_weight, chosen.prompt_loss_weight):
            if weight:
                raise Unsupported(
                    "prompt_loss_weight_not_supported",
                    "Luthier learns the assistant's turns alone; leave prompt_loss_weight out or set it to 0.",
                    "prompt_loss_weight",
                )
        return Hyperparameters(
            n_epochs=chosen.n_epochs or root.n_epochs,
            batch_size=chosen.batch_size or root.batch_size,
            learning_rate_multiplier=chosen.learning_rate_multiplier or root.learning_rate_multiplier,
        )

    def extras(self) -> dict[str, object]:
        """Fields that are kept only to be shown again."""
        kept = {"metadata": self.metadata, "trainingType": _training_type(self.trainingType)}
        return {name: value for name, value in kept.items() if value is not None}


class ModelOfDeployment(_Body):
    name: str = Field(min_length=1)
    format: str = "OpenAI"
    version: str | None = None
    source: str | None = None
    sourceAccount: str | None = None


class DeploymentProperties(BaseModel):
    model: ModelOfDeployment


class SkuBody(BaseModel):
    name: str = "Standard"
    capacity: int | None = None


class DeploymentBody(BaseModel):
    """PUT .../deployments/{name} (ARM 2024-10-01). Unknown properties are ARM's to send and ours to ignore."""

    properties: DeploymentProperties
    sku: SkuBody = SkuBody()


_TRAINING_TYPES = {
    "standard": "standard",
    "globalstandard": "globalStandard",
    "datazonestandard": "datazoneStandard",
    "developer": "developerTier",
    "developertier": "developerTier",
    "1": "standard",  # litellm sends the integer 1
}


def _training_type(value: str | int | None) -> str | None:
    if value is None:
        return None
    known = _TRAINING_TYPES.get(str(value).lower())
    if known is None:
        raise InvalidRequest(
            "invalid_training_type",
            f"trainingType {value!r} is unknown; use Standard, GlobalStandard or Developer, or leave it out.",
            "trainingType",
        )
    return known
