"""Bodies of requests as they arrive, in every shape that real clients send; unknown fields are named and refused."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from luthier.api import job_fields
from luthier.api.job_fields import (
    Count,
    DpoBody,
    DpoHyperparametersBody,
    EarlyStopping,
    Integrations,
    Metadata,
    Rate,
    Whole,
)
from luthier.api.words import OPENAI_PURPOSES
from luthier.core.errors import InvalidRequest, Unsupported
from luthier.core.hyperparameters import Hyperparameters
from luthier.core.states import Method
from luthier.service.deployments import MAX_TAG_CHARACTERS, MAX_TAG_KEY_CHARACTERS, MAX_TAGS
from luthier.service.files import MAX_EXPIRY_S


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class HyperparametersBody(_Body):
    n_epochs: Count = None
    batch_size: Count = None
    learning_rate_multiplier: Rate = None
    prompt_loss_weight: float | None = None


class SupervisedBody(_Body):
    hyperparameters: HyperparametersBody | None = None
    prompt_loss_weight: float | None = None


class MethodBody(_Body):
    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: SupervisedBody | None = None
    dpo: DpoBody | None = None
    reinforcement: dict[str, Any] | None = None
    prompt_loss_weight: float | None = None

    def check(self) -> None:
        """Raises Unsupported for a method that is not done here, InvalidRequest for fields of another one."""
        if self.type == "reinforcement":
            raise Unsupported(
                "method_not_supported",
                "method.type 'reinforcement' cannot be trained here yet; use 'supervised' or 'dpo'.",
                "method.type",
            )
        other = "dpo" if self.type == "supervised" else "supervised"
        if (self.dpo if other == "dpo" else self.supervised) is not None:
            text = f"method.type is {self.type!r}, but method.{other} is given too. Leave one of them out."
            raise InvalidRequest("method_mismatch", text, f"method.{other}")


class JobBody(_Body):
    """POST /fine_tuning/jobs. `trainingType` and `prompt_loss_weight` are extras that Azure's callers send."""

    model: str = Field(min_length=1)
    training_file: str = Field(min_length=1)
    validation_file: str | None = None
    hyperparameters: HyperparametersBody | None = None
    method: MethodBody | None = None
    seed: int | None = None
    suffix: str | None = None
    integrations: Integrations | None = None
    metadata: Metadata | None = None
    trainingType: str | Whole | None = None
    early_stopping: EarlyStopping = None
    prompt_loss_weight: float | None = None

    def asked(self) -> Hyperparameters:
        """Hyperparameters of `method` where they are given, else those of the root.

        Raises Unsupported for what is not done here, InvalidRequest for fields of another method than the one named.
        """
        method = self.method or MethodBody(type="supervised")
        method.check()
        supervised, dpo = method.supervised or SupervisedBody(), method.dpo or DpoBody()
        root = self.hyperparameters or HyperparametersBody()
        told = supervised.hyperparameters or HyperparametersBody()
        chosen = dpo.hyperparameters or DpoHyperparametersBody() if method.type == "dpo" else told
        job_fields.refuse_prompt_loss_weight(
            {
                "prompt_loss_weight": self.prompt_loss_weight,
                "hyperparameters.prompt_loss_weight": root.prompt_loss_weight,
                "method.prompt_loss_weight": method.prompt_loss_weight,
                "method.supervised.prompt_loss_weight": supervised.prompt_loss_weight,
                "method.supervised.hyperparameters.prompt_loss_weight": told.prompt_loss_weight,
            }
        )
        return Hyperparameters(
            n_epochs=root.n_epochs if chosen.n_epochs is None else chosen.n_epochs,
            batch_size=root.batch_size if chosen.batch_size is None else chosen.batch_size,
            learning_rate_multiplier=root.learning_rate_multiplier
            if chosen.learning_rate_multiplier is None
            else chosen.learning_rate_multiplier,
            beta=dpo.chosen_beta(),
        )

    def learns_by(self) -> Method:
        """The method, once `asked` has had nothing against it."""
        return Method(self.method.type) if self.method else Method.SUPERVISED

    def notes(self) -> tuple[str, ...]:
        """What of the request changes nothing here, in words for its user."""
        return self.method.dpo.notes() if self.method and self.method.dpo else ()

    def extras(self) -> dict[str, object]:
        """Fields that are kept to be shown again; of them the trainer is told of early_stopping alone."""
        kept = {
            "metadata": self.metadata,
            "trainingType": job_fields.training_type(self.trainingType),
            "integrations": [item.kept() for item in self.integrations or ()] or None,
            "early_stopping": self.early_stopping and self.early_stopping.model_dump(),
        }
        return {name: value for name, value in kept.items() if value is not None}


def _encodable(value: str) -> str:
    """JSON can spell half a surrogate pair, which no database or file name can hold."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid Unicode text") from None
    return value


Text = Annotated[str, AfterValidator(_encodable)]


Purpose = Annotated[Text, Field(json_schema_extra={"enum": sorted(OPENAI_PURPOSES)})]
"""The purposes of either vendor; what a dialect takes of them, the service checks."""
Tags = Annotated[
    dict[str, str],
    Field(
        json_schema_extra={
            "maxProperties": MAX_TAGS,
            "propertyNames": {"minLength": 1, "maxLength": MAX_TAG_KEY_CHARACTERS},
            "additionalProperties": {"type": "string", "maxLength": MAX_TAG_CHARACTERS},
        }
    ),
]


class ExpiryBody(_Body):
    """`expires_after`: a file ends so many seconds after it was created."""

    anchor: Literal["created_at"]
    seconds: int

    def within(self, min_s: int) -> int:
        """The seconds. Raises InvalidRequest outside of the dialect's range."""
        if not min_s <= self.seconds <= MAX_EXPIRY_S:
            text = f"expires_after.seconds is {self.seconds}; it must be from {min_s} to {MAX_EXPIRY_S} here."
            raise InvalidRequest("invalid_expires_after", text, "expires_after.seconds")
        return self.seconds


class ImportBody(_Body):
    """POST /files/import (A1021 `FileImport`; A2504 with `expires_after`)."""

    purpose: Purpose
    filename: Text
    content_url: str = Field(min_length=1)
    expires_after: ExpiryBody | None = None


class UploadBody(_Body):
    """POST /uploads (A1021 and OpenAI `CreateUploadRequest`)."""

    filename: Text
    purpose: Purpose
    bytes: Whole = Field(ge=-(2**63), le=2**63 - 1)
    mime_type: Text = Field(max_length=255)
    expires_after: ExpiryBody | None = None


class CompleteUploadBody(_Body):
    """POST /uploads/{id}/complete."""

    part_ids: list[Text] = Field(max_length=10_000)
    md5: str | None = None


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
    tags: Tags | None = None


class SkuPatchBody(BaseModel):
    name: str | None = None
    capacity: int | None = None


class DeploymentPatchBody(BaseModel):
    """PATCH .../deployments/{name} (ARM 2024-10-01): what is left out stays as it is."""

    sku: SkuPatchBody | None = None
    tags: Tags | None = None
