"""What a trainer is told: the spec of a run, versioned, with every "auto" already a number.

service/jobs/train_specs.py makes it, it is stored as spec.json, the trainer reads it; the catalog shares LoraRecipe.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from luthier.core.states import Method, Tuning
from luthier.core.training.recipe import Schedule


class StrictModel(BaseModel):
    """Base of what stands in a run directory: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Quantization = Literal["8bit", "4bit"]


def _is_default(value: object) -> bool:
    """Whether a field of a spec has its default, and is left out when the spec is written."""
    return value in (Schedule.LINEAR, Tuning.LORA, 0.0)


def _is_one(value: object) -> bool:
    """Whether a count is that of one rank, and is left out when the spec is written."""
    return value == 1


def _is_false(value: object) -> bool:
    """Whether a switch is off, and is left out when the spec is written."""
    return value is False


def _is_not_set(value: object) -> bool:
    """Whether a field is None, and is left out when the spec is written."""
    return value is None


class LoraRecipe(StrictModel):
    """Shape of the adapter. `targets` are names of linear modules, as PEFT takes them; `dropout` is a probability.

    With `quantization` the base's linear weights are held in so few bits, None in bf16; it is prepared for that when it
    is pulled.
    """

    rank: int = Field(ge=1)
    alpha: float = Field(gt=0)
    dropout: float = Field(ge=0, lt=1, default=0.0)
    targets: tuple[str, ...]
    quantization: Quantization | None = None


class TrainSpec(StrictModel):
    """The complete input of a trainer; every "auto" is resolved to a number. `learning_rate` is the peak rate."""

    version: Literal[1] = 1
    job_id: str
    base_model: str
    base_folder: Path
    continued: bool = False
    """Whether the folder `parent/` of the run directory holds the adapter or the weights to continue from."""
    context_tokens: int = Field(ge=1)
    abilities: tuple[str, ...] = ()
    """The base model's Ability words: which rows it accepts beyond plain text turns."""
    seed: int = Field(ge=0)
    n_epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    tuning: Tuning = Field(default=Tuning.LORA, exclude_if=_is_default)
    """What is trained. Specs of versions without the field have it from `lora`; written if it is not the default."""
    lora: LoraRecipe | None
    """The adapter's shape; None if all weights are tuned."""
    method: Method = Method.SUPERVISED
    beta: float | None = Field(gt=0, default=None)
    """Method dpo only: the weight of a difference in log-probability."""
    has_validation: bool = False
    keep_checkpoints: int = Field(ge=1, default=3)
    threads: int | None = None
    """CPU threads of each rank; None for one per core, shared by the ranks of a machine."""
    ranks: int = Field(default=1, ge=1, exclude_if=_is_one)
    """Processes that train together, each on its share of every batch. What they compute depends on how many there are
    (to rounding), so a run keeps its number; specs without the field have one."""
    shard_base: bool = Field(default=False, exclude_if=_is_false)
    """Whether each rank holds a share of the frozen base only (FSDP2), and gathers a layer when it computes it."""
    parent_model: str | None = None
    """The name of the model whose weights are in `parent/`, for the manifest."""
    base_licence: str | None = None
    """The base model's licence and, if its weights come from a hub, the repository: for the model card."""
    base_repository: str | None = None
    schedule: Schedule = Field(default=Schedule.LINEAR, exclude_if=_is_default)
    """The learning-rate schedule after the warm-up. Written, as the next two fields, only if not the default: specs
    without them keep the same bytes from version to version."""
    warmup: float | None = Field(default=None, ge=0, exclude_if=_is_not_set)
    """Warm-up: below 1 a share of the steps, else a number of steps; None: min(10, a tenth of all)."""
    weight_decay: float = Field(default=0.0, ge=0, exclude_if=_is_default)
    """AdamW's, decoupled; vectors (norms, biases) do not decay."""
    early_stop_patience: int | None = Field(ge=1, default=None)
    """Early stopping: end after so many epochs without a better validation loss; the best checkpoint is the model."""
    save_interval_s: float = Field(gt=0, default=60.0)
    """Seconds between two resume points within an epoch; changes nothing that is computed."""

    @model_validator(mode="before")
    @classmethod
    def _add_tuning(cls, values: Any) -> Any:
        """Fills in `tuning` for specs of versions without the field."""
        return values | {"tuning": tuning_of(values)} if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _check_agreement(self) -> "TrainSpec":
        """Raises ValueError where `lora` does not fit `tuning`, or `beta` does not fit `method`."""
        if (self.tuning is Tuning.LORA) is not (self.lora is not None):
            raise ValueError("an adapter needs `lora`, and tuning of all weights has none")
        if (self.method is Method.DPO) is not (self.beta is not None):
            raise ValueError("method dpo needs `beta`, and no other method has one")
        if self.shard_base and (self.ranks == 1 or self.lora is None or self.lora.quantization is not None):
            raise ValueError("a base is shared by several ranks that train an adapter, its weights not quantized")
        return self

    @property
    def dropout(self) -> float:
        """The adapter's dropout probability; 0 where all weights are tuned."""
        return 0.0 if self.lora is None else self.lora.dropout


def tuning_of(spec: Mapping[str, Any]) -> Tuning:
    """What a spec in its stored form trains. Versions without the field said it by `lora`: null for all weights."""
    return Tuning(spec.get("tuning") or (Tuning.FULL if spec.get("lora") is None else Tuning.LORA))
