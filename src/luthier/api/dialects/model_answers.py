"""Models as each dialect sends them: OpenAI's fields and those of A1021 together.

Only the creation time differs in name: a published Azure notebook renames one name to the other, and fails if both are
there (wire-contract.md section 12).
"""

from typing import Annotated, Any, Literal, Self

from msgspec import UNSET, Meta, Struct, UnsetType

from luthier.api.dialects.answer import Unix, unix, unset_if_none
from luthier.service.models.models import Model

BaseModelName = Annotated[str, Meta(description="The base model of an alias or a fine-tuned model.")]
JobId = Annotated[str, Meta(description="The job that made it.")]
Ready = Annotated[bool, Meta(description="Whether the base weights are on this machine.")]


class Capabilities(Struct, kw_only=True):
    """What can be done with a model here; all false while its base weights are not on this machine."""

    fine_tune: bool
    inference: bool
    completion: bool
    chat_completion: bool
    embeddings: bool


class OpenAIModel(Struct, kw_only=True):
    """A base model, an alias, a fine-tuned model or a checkpoint. `model` and `fine_tune` are null for a base model."""

    id: str
    object: Literal["model"] = "model"
    created: Unix
    owned_by: str
    status: str
    model: BaseModelName | None
    fine_tune: JobId | None
    capabilities: Capabilities
    lifecycle_status: str
    weights: str
    abilities: list[str]
    ready: Ready

    @classmethod
    def from_model(cls, model: Model) -> Self:
        """The model, with null for what it does not have."""
        return cls(
            created=unix(model.created_at), model=_base_name(model), fine_tune=_job_id(model), **_shared_fields(model)
        )


class AzureModel(Struct, kw_only=True):
    """A base model, an alias, a fine-tuned model or a checkpoint.

    `model` and `fine_tune` are left out for a base model.
    """

    id: str
    object: Literal["model"] = "model"
    created_at: Unix
    owned_by: str
    status: str
    model: BaseModelName | UnsetType = UNSET
    fine_tune: JobId | UnsetType = UNSET
    capabilities: Capabilities
    lifecycle_status: str
    weights: str
    abilities: list[str]
    ready: Ready

    @classmethod
    def from_model(cls, model: Model) -> Self:
        """The model, without the fields that it does not have; the creation time is `created_at`."""
        base_name, job_id = unset_if_none(_base_name(model)), unset_if_none(_job_id(model))
        return cls(created_at=unix(model.created_at), model=base_name, fine_tune=job_id, **_shared_fields(model))


class AzureV1Model(Struct, kw_only=True):
    """As AzureModel, with the creation time under OpenAI's name."""

    id: str
    object: Literal["model"] = "model"
    created: Unix
    owned_by: str
    status: str
    model: BaseModelName | UnsetType = UNSET
    fine_tune: JobId | UnsetType = UNSET
    capabilities: Capabilities
    lifecycle_status: str
    weights: str
    abilities: list[str]
    ready: Ready

    @classmethod
    def from_model(cls, model: Model) -> Self:
        """The model, without the fields that it does not have; the creation time is `created`."""
        base_name, job_id = unset_if_none(_base_name(model)), unset_if_none(_job_id(model))
        return cls(created=unix(model.created_at), model=base_name, fine_tune=job_id, **_shared_fields(model))


def _shared_fields(model: Model) -> dict[str, Any]:
    """The fields that every dialect has, by name. A model without a checkpoint is the service's own."""
    return {
        "id": model.name,
        "owned_by": "luthier" if model.checkpoint is None else "user",
        "status": "succeeded",
        "capabilities": Capabilities(
            fine_tune=model.ready and not model.base.embeds,
            inference=model.ready,
            completion=False,
            chat_completion=model.ready and not model.base.embeds,
            embeddings=model.ready and model.base.embeds,
        ),
        "lifecycle_status": "generally-available",
        "weights": f"{model.base.title}, {model.base.parameters} parameters, {model.base.licence}",
        "abilities": sorted(model.base.abilities),
        "ready": model.ready,
    }


def _base_name(model: Model) -> str | None:
    """The base model of an alias, a fine-tuned model or a checkpoint; None for a base model itself."""
    return model.base.name if model.checkpoint is not None or model.is_alias else None


def _job_id(model: Model) -> str | None:
    """The job that made the model; None for base models and aliases."""
    return None if model.checkpoint is None else model.checkpoint.job_id
