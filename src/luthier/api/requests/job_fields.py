"""Fields of a job's body, each in every form that real callers send (wire-contract.md section 6).

Types with their checks for `file_and_job_bodies.py`. A ValueError of a check becomes an error at its field.
"""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from luthier.api.requests.field_types import Whole, encodable
from luthier.core.errors import InvalidRequest, Unsupported
from luthier.core.quotas import MAX_METADATA_KEY_CHARACTERS, MAX_METADATA_PAIRS, MAX_METADATA_VALUE_CHARACTERS
from luthier.core.training import recipe
from luthier.core.training.hyperparameters import DEFAULT_PATIENCE, MAX_EPOCHS

MAX_INTEGRATIONS = 5

_NOT_A_NUMBER = 'must be a number or "auto"'
_TRAINING_TYPES = {
    "standard": "standard",
    "globalstandard": "globalStandard",
    "datazonestandard": "datazoneStandard",
    "developer": "developerTier",
    "developertier": "developerTier",
    "0": "standard",
    "1": "globalStandard",  # litellm, and Microsoft's own sample for model-router, send the integer
}


def _auto_or_number(value: object) -> object:
    """The number, also of a text; None for "auto", -1 and null, which all leave the choice to the service.

    Raises ValueError for anything else, NaN and infinities included.
    """
    if isinstance(value, str):
        text = value.strip().lower()
        if text == "auto":
            return None
        try:
            value = float(text)
        except ValueError as error:
            raise ValueError(_NOT_A_NUMBER) from error
    if isinstance(value, bool):
        raise ValueError(_NOT_A_NUMBER)
    if value is None or value == -1:
        return None
    try:
        is_number = isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        is_number = False
    if not is_number:
        raise ValueError(_NOT_A_NUMBER)
    return value


def checked_metadata(pairs: dict[str, str]) -> dict[str, str]:
    """The pairs unchanged. Raises ValueError for too many or too long ones, and half a surrogate pair."""
    if len(pairs) > MAX_METADATA_PAIRS:
        raise ValueError(f"has {len(pairs)} pairs; at most {MAX_METADATA_PAIRS} are kept")
    for key, value in pairs.items():
        if not 1 <= len(key) <= MAX_METADATA_KEY_CHARACTERS:
            raise ValueError(f"has a key of {len(key)} characters; a key has 1 to {MAX_METADATA_KEY_CHARACTERS}")
        if len(value) > MAX_METADATA_VALUE_CHARACTERS:
            raise ValueError(
                f"has a value of {len(value)} characters; a value has at most {MAX_METADATA_VALUE_CHARACTERS}"
            )
        encodable(f"{key}{value}")
    return pairs


def _limit_pairs(pairs: object) -> object:
    """The value unchanged. Raises ValueError for too many pairs before any is looked at: each may be faulty."""
    if isinstance(pairs, dict) and len(pairs) > MAX_METADATA_PAIRS:
        raise ValueError(f"has {len(pairs)} pairs; at most {MAX_METADATA_PAIRS} are kept")
    return pairs


Count = Annotated[int | None, BeforeValidator(_auto_or_number)]
Rate = Annotated[float | None, BeforeValidator(_auto_or_number)]
Metadata = Annotated[
    dict[str, str],
    BeforeValidator(_limit_pairs),
    AfterValidator(checked_metadata),
    Field(
        json_schema_extra={
            "maxProperties": MAX_METADATA_PAIRS,
            "propertyNames": {"minLength": 1, "maxLength": MAX_METADATA_KEY_CHARACTERS},
            "additionalProperties": {"type": "string", "maxLength": MAX_METADATA_VALUE_CHARACTERS},
        }
    ),
]
ShortText = Annotated[str, Field(max_length=256)]


class _Field(BaseModel):
    """A JSON object in which an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class EarlyStoppingBody(_Field):
    """`early_stopping` of a job, an extension: it ends after `patience` epochs without a better validation loss."""

    patience: Whole = Field(ge=1, le=MAX_EPOCHS, default=DEFAULT_PATIENCE)


def _expand_flag(value: object) -> object:
    """True is early stopping with the default patience, False none; an object is left to its model."""
    return ({} if value else None) if isinstance(value, bool) else value


EarlyStopping = Annotated[EarlyStoppingBody | None, BeforeValidator(_expand_flag)]


_NUMBER = {"anyOf": [{"type": "number"}, {"type": "string"}, {"type": "null"}]}
RecipeObject = Annotated[
    dict[str, Any],
    Field(
        json_schema_extra={
            "properties": {
                **dict.fromkeys(recipe.NAMES, _NUMBER),
                "full": {"type": ["boolean", "null"]},
                "schedule": {"enum": [*recipe.Schedule, None]},
                "lora_targets": {"type": ["array", "string", "null"], "items": {"type": "string"}},
            },
            "additionalProperties": False,
        }
    ),
]
"""`luthier` of a job, an extension: settings that practitioners know, parsed and checked by core.recipe."""


class WandbBody(_Field):
    """The project of Weights & Biases of a job: stored and shown; nothing is sent there from here."""

    project: ShortText = Field(min_length=1)
    name: ShortText | None = None
    entity: ShortText | None = None
    tags: Annotated[list[ShortText], Field(max_length=64)] | None = None


class IntegrationBody(_Field):
    """`integrations[]` of a job; Weights & Biases is the only one that either vendor has."""

    type: Literal["wandb"]
    wandb: WandbBody

    def stored_fields(self) -> dict[str, Any]:
        """The fields that were sent, as they are stored with the job and echoed."""
        return self.model_dump(exclude_none=True)


Integrations = Annotated[list[IntegrationBody], Field(max_length=MAX_INTEGRATIONS)]


class DpoHyperparametersBody(_Field):
    """The hyperparameters of DPO; the service chooses for null, "auto" and -1, and `l2_multiplier` has no effect."""

    beta: Rate = None
    l2_multiplier: Rate = None
    n_epochs: Count = None
    batch_size: Count = None
    learning_rate_multiplier: Rate = None


# SDKs send beta among the hyperparameters, documents show it beside them (wire-contract.md section 6).
class DpoBody(_Field):
    """`method.dpo`; `beta` may be among its hyperparameters or beside them."""

    hyperparameters: DpoHyperparametersBody | None = None
    beta: Rate = None
    l2_multiplier: Rate = None

    def chosen_beta(self) -> float | None:
        """The beta of either place, None if neither has one. Raises InvalidRequest if both have one and they differ."""
        inner = self.hyperparameters.beta if self.hyperparameters else None
        if inner is not None and self.beta is not None and inner != self.beta:
            text = f"method.dpo.beta is {self.beta} and method.dpo.hyperparameters.beta is {inner}. Send one of them."
            raise InvalidRequest("two_values", text, "method.dpo.beta")
        return self.beta if inner is None else inner

    def notes(self) -> tuple[str, ...]:
        """What has no effect, a sentence each, for the job's events; empty if all of it has."""
        inner = self.hyperparameters.l2_multiplier if self.hyperparameters else None
        if self.l2_multiplier is None and inner is None:
            return ()
        return ("method.dpo.l2_multiplier has no effect: no vendor documents its meaning. Weight decay is 0 here.",)


def overridden_root_values(root: BaseModel | None, inner: BaseModel | None, path: str) -> tuple[str, ...]:
    """A sentence for each hyperparameter of the root that another value at `path` overrides, for the job's events."""
    names = ("n_epochs", "batch_size", "learning_rate_multiplier")
    pairs = [(name, getattr(root, name, None), getattr(inner, name, None)) for name in names]
    return tuple(
        f"hyperparameters.{name} {outer} has no effect: {path}.{name} is {used}, and wins."
        for name, outer, used in pairs
        if outer is not None and used is not None and outer != used
    )


def refuse_prompt_loss_weight(weights: dict[str, float | None]) -> None:
    """Raises Unsupported for a weight other than 0, by its path: user turns are not trained on here."""
    for path, weight in weights.items():
        if weight:
            raise Unsupported(
                "prompt_loss_weight_not_supported",
                f"{path} is {weight}; Luthier trains only on the assistant's turns. Leave it out or set it to 0.",
                path,
            )


def training_type(value: str | int | None) -> str | None:
    """The training type as Azure echoes it; None for None. Raises InvalidRequest for an unknown one."""
    if value is None:
        return None
    echoed = _TRAINING_TYPES.get(str(value).lower())
    if echoed is None:
        raise InvalidRequest(
            "invalid_training_type",
            f"trainingType {value!r} is unknown; use Standard, GlobalStandard or Developer, or leave it out.",
            "trainingType",
        )
    return echoed
