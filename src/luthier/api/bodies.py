"""Bodies of requests as they arrive, in every shape that real clients send; unknown fields are named and refused."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictInt

from luthier.api import job_fields
from luthier.api.job_fields import Count, DpoBody, Integrations, Metadata, Rate
from luthier.core.errors import InvalidRequest, Unsupported
from luthier.core.hyperparameters import Hyperparameters
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
    trainingType: str | StrictInt | None = None
    prompt_loss_weight: float | None = None

    def asked(self) -> Hyperparameters:
        """Hyperparameters of `method` where they are given, else those of the root. Raises Unsupported."""
        if self.method is not None and self.method.type != "supervised":
            raise Unsupported(
                "method_not_supported",
                f"method.type {self.method.type!r} cannot be trained here yet; use 'supervised' or leave method out.",
                "method.type",
            )
        method = self.method or MethodBody(type="supervised")
        supervised = method.supervised or SupervisedBody()
        root, chosen = (
            self.hyperparameters or HyperparametersBody(),
            supervised.hyperparameters or HyperparametersBody(),
        )
        job_fields.refuse_prompt_loss_weight(
            {
                "prompt_loss_weight": self.prompt_loss_weight,
                "hyperparameters.prompt_loss_weight": root.prompt_loss_weight,
                "method.prompt_loss_weight": method.prompt_loss_weight,
                "method.supervised.prompt_loss_weight": supervised.prompt_loss_weight,
                "method.supervised.hyperparameters.prompt_loss_weight": chosen.prompt_loss_weight,
            }
        )
        return Hyperparameters(
            n_epochs=root.n_epochs if chosen.n_epochs is None else chosen.n_epochs,
            batch_size=root.batch_size if chosen.batch_size is None else chosen.batch_size,
            learning_rate_multiplier=root.learning_rate_multiplier
            if chosen.learning_rate_multiplier is None
            else chosen.learning_rate_multiplier,
        )

    def extras(self) -> dict[str, object]:
        """Fields that are kept only to be shown again."""
        kept = {
            "metadata": self.metadata,
            "trainingType": job_fields.training_type(self.trainingType),
            "integrations": [item.kept() for item in self.integrations or ()] or None,
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

    purpose: Text
    filename: Text
    content_url: str = Field(min_length=1)
    expires_after: ExpiryBody | None = None


class UploadBody(_Body):
    """POST /uploads (A1021 and OpenAI `CreateUploadRequest`)."""

    filename: Text
    purpose: Text
    bytes: int = Field(ge=-(2**63), le=2**63 - 1, strict=True)
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
    tags: dict[str, str] | None = None


class SkuPatchBody(BaseModel):
    name: str | None = None
    capacity: int | None = None


class DeploymentPatchBody(BaseModel):
    """PATCH .../deployments/{name} (ARM 2024-10-01): what is left out stays as it is."""

    sku: SkuPatchBody | None = None
    tags: dict[str, str] | None = None


class TextPart(_Body):
    type: Literal["text"]
    text: str


class ImagePart(BaseModel):
    type: Literal["image_url", "input_audio", "file"]


class ChatMessage(_Body):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart | ImagePart]
    name: str | None = None
    refusal: None = None

    def plain(self, place: str) -> dict[str, str]:
        """The turn as the chat template takes it. Raises InvalidRequest for a part that no base here can see."""
        if isinstance(self.content, str):
            text = self.content
        else:
            parts = [part.text for part in self.content if isinstance(part, TextPart)]
            if len(parts) != len(self.content):
                raise InvalidRequest(
                    "image_not_supported", "This model reads text alone; send parts of type 'text'.", place
                )
            text = "".join(parts)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class StreamOptions(_Body):
    include_usage: bool = False
    include_obfuscation: bool | None = None


class ChatBody(_Body):
    """POST /chat/completions. A field that the engine cannot honour is not here, and so is refused by name."""

    model: str | None = None
    messages: list[ChatMessage] = Field(min_length=1, max_length=2048)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=2**31 - 1)
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), le=2**63 - 1)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    n: Literal[1] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None

    def for_engine(self) -> dict[str, Any]:
        """What the engine is asked, with OpenAI's defaults written out: an engine's own defaults differ."""
        passed = {"stop", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs"}
        body = self.model_dump(include=passed, exclude_none=True)
        body["messages"] = [message.plain(f"messages[{place}].content") for place, message in enumerate(self.messages)]
        body["temperature"] = 1.0 if self.temperature is None else self.temperature
        body["top_p"] = 1.0 if self.top_p is None else self.top_p
        body["max_tokens"] = self.max_completion_tokens or self.max_tokens or DEFAULT_MAX_TOKENS
        if self.seed is not None:
            body["seed"] = self.seed % ENGINE_SEEDS
        if self.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return body


ENGINE_SEEDS = 2**32 - 1
"""Engines take 32 bits of a seed, and all ones mean "any" to llama.cpp: the wire's 64 bits are folded below that."""

DEFAULT_MAX_TOKENS = 4096
"""Azure's documented default of max_tokens (contract section 13)."""
