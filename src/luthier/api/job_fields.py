"""Fields of a job's body, each in every shape that real callers send it in (contract section 6)."""

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictInt

from luthier.core.errors import InvalidRequest, Unsupported
from luthier.core.hyperparameters import DEFAULT_PATIENCE, MAX_EPOCHS

MAX_PAIRS = 16
MAX_KEY_CHARACTERS = 64
MAX_VALUE_CHARACTERS = 512
MAX_INTEGRATIONS = 5

_NO_NUMBER = 'must be a number or "auto"'
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
    """None for "auto", -1 and null, which all mean that the service chooses; numbers also as text."""
    if isinstance(value, str):
        text = value.strip().lower()
        if text == "auto":
            return None
        try:
            value = float(text)
        except ValueError as error:
            raise ValueError(_NO_NUMBER) from error
    if isinstance(value, bool):
        raise ValueError(_NO_NUMBER)
    if value is None or value == -1:
        return None
    try:
        is_number = isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        is_number = False
    if not is_number:
        raise ValueError(_NO_NUMBER)
    return value


def _checked_metadata(pairs: dict[str, str]) -> dict[str, str]:
    if len(pairs) > MAX_PAIRS:
        raise ValueError(f"has {len(pairs)} pairs; at most {MAX_PAIRS} are kept")
    for key, value in pairs.items():
        if not 1 <= len(key) <= MAX_KEY_CHARACTERS:
            raise ValueError(f"has a key of {len(key)} characters; a key has 1 to {MAX_KEY_CHARACTERS}")
        if len(value) > MAX_VALUE_CHARACTERS:
            raise ValueError(f"has a value of {len(value)} characters; a value has at most {MAX_VALUE_CHARACTERS}")
    return pairs


def whole(value: object) -> object:
    """JSON knows one kind of number: 5.0 is a whole one too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[StrictInt, BeforeValidator(whole)]
Count = Annotated[int | None, BeforeValidator(_auto_or_number)]
Rate = Annotated[float | None, BeforeValidator(_auto_or_number)]
Metadata = Annotated[
    dict[str, str],
    AfterValidator(_checked_metadata),
    Field(
        json_schema_extra={
            "maxProperties": MAX_PAIRS,
            "propertyNames": {"minLength": 1, "maxLength": MAX_KEY_CHARACTERS},
            "additionalProperties": {"type": "string", "maxLength": MAX_VALUE_CHARACTERS},
        }
    ),
]
Word = Annotated[str, Field(max_length=256)]


class _Field(BaseModel):
    model_config = ConfigDict(extra="forbid")


class EarlyStoppingBody(_Field):
    """`early_stopping` of a job, an extra of ours: no vendor has one."""

    patience: Whole = Field(ge=1, le=MAX_EPOCHS, default=DEFAULT_PATIENCE)


def _spelled_out(value: object) -> object:
    """True is early stopping with the usual patience, False none."""
    return ({} if value else None) if isinstance(value, bool) else value


EarlyStopping = Annotated[EarlyStoppingBody | None, BeforeValidator(_spelled_out)]


class WandbBody(_Field):
    project: Word = Field(min_length=1)
    name: Word | None = None
    entity: Word | None = None
    tags: Annotated[list[Word], Field(max_length=64)] | None = None


class IntegrationBody(_Field):
    """`integrations[]` of a job; Weights & Biases is the only kind that either vendor knows."""

    type: Literal["wandb"]
    wandb: WandbBody

    def kept(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True)


Integrations = Annotated[list[IntegrationBody], Field(max_length=MAX_INTEGRATIONS)]


class DpoHyperparametersBody(_Field):
    beta: Rate = None
    l2_multiplier: Rate = None
    n_epochs: Count = None
    batch_size: Count = None
    learning_rate_multiplier: Rate = None


class DpoBody(_Field):
    """`method.dpo`: SDKs put beta among the hyperparameters, Microsoft's REST sample beside them (contract, 6)."""

    hyperparameters: DpoHyperparametersBody | None = None
    beta: Rate = None
    l2_multiplier: Rate = None

    def chosen_beta(self) -> float | None:
        """Raises InvalidRequest where the two places name two values."""
        inner = self.hyperparameters.beta if self.hyperparameters else None
        if inner is not None and self.beta is not None and inner != self.beta:
            text = f"method.dpo.beta is {self.beta} and method.dpo.hyperparameters.beta is {inner}. Send one of them."
            raise InvalidRequest("two_values", text, "method.dpo.beta")
        return self.beta if inner is None else inner

    def notes(self) -> tuple[str, ...]:
        """What of it changes nothing here, for the job's events."""
        inner = self.hyperparameters.l2_multiplier if self.hyperparameters else None
        if self.l2_multiplier is None and inner is None:
            return ()
        return ("method.dpo.l2_multiplier is not used: no vendor says what it multiplies. Weight decay is 0 here.",)


def refuse_prompt_loss_weight(weights: dict[str, float | None]) -> None:
    """Raises Unsupported, with its place, for a weight other than 0: what the user says is not learned here."""
    for place, weight in weights.items():
        if weight:
            raise Unsupported(
                "prompt_loss_weight_not_supported",
                f"{place} is {weight}; Luthier learns the assistant's turns alone. Leave it out or set it to 0.",
                place,
            )


def training_type(value: str | int | None) -> str | None:
    """The word that Azure echoes. Raises InvalidRequest for one that it does not know."""
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
