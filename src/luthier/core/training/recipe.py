"""The recipe of a job: what practitioners set beyond a hosted service's hyperparameters, read and checked.

The same names on the command line, in a config file and in the `luthier` object of a job's body. Each is None where the
base model's catalog entry or the written rule decides (docs/hyperparameters.md).
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum, auto
from typing import Any

from luthier.core.errors import InvalidRequest

MAX_RECIPE_EPOCHS = 1000
"""Of a job that sends a recipe. Vendors' clients get 50 (core.hyperparameters)."""
MAX_RANK = 1024
MAX_WARMUP_STEPS = 1_000_000
BITS = (4, 8)

OTHER_TRAINERS = {
    "lr": "learning_rate",
    "peak_learning_rate": "learning_rate",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "epoch": "epochs",
    "per_device_train_batch_size": "batch_size",
    "micro_batch_size": "batch_size",
    "train_batch_size": "batch_size",
    "r": "lora_rank",
    "lora_r": "lora_rank",
    "rank": "lora_rank",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "target_modules": "lora_targets",
    "lora_target_modules": "lora_targets",
    "full_finetune": "full",
    "full_finetuning": "full",
    "load_in_4bit": "bits",
    "load_in_8bit": "bits",
    "quantization_bit": "bits",
    "max_length": "max_tokens",
    "max_seq_len": "max_tokens",
    "max_seq_length": "max_tokens",
    "sequence_len": "max_tokens",
    "cutoff_len": "max_tokens",
    "warmup_ratio": "warmup",
    "warmup_steps": "warmup",
    "lr_scheduler": "schedule",
    "lr_scheduler_type": "schedule",
    "wd": "weight_decay",
}
"""Names of TRL, Axolotl, LLaMA-Factory and Unsloth -> ours. Suggested, not accepted: some values differ in meaning."""


class Schedule(StrEnum):
    """How the learning rate continues after the warm-up: both that fall end at a tenth of the peak."""

    LINEAR = auto()
    COSINE = auto()
    CONSTANT = auto()


@dataclass(frozen=True, slots=True)
class Recipe:
    """What was requested; None is left to Luthier. `warmup` below 1 is a share of the run's steps, else steps.

    `learning_rate` is the peak rate, `max_tokens` the longest row, `bits` the width of the frozen weights (4 or 8).
    """

    n_epochs: int | None = None
    learning_rate: float | None = None
    lora_rank: int | None = None
    lora_alpha: float | None = None
    lora_dropout: float | None = None
    lora_targets: tuple[str, ...] | None = None
    full: bool | None = None
    bits: int | None = None
    max_tokens: int | None = None
    warmup: float | None = None
    schedule: Schedule | None = None
    weight_decay: float | None = None

    def requested(self) -> dict[str, Any]:
        """What is not None, as JSON values: the form in which a job keeps and shows it. `read` takes it back."""
        values = {name: value for name, value in asdict(self).items() if value is not None}
        if self.lora_targets is not None:
            values["lora_targets"] = list(self.lora_targets)
        if self.schedule is not None:
            values["schedule"] = str(self.schedule)
        return values

    @property
    def adapter_fields(self) -> tuple[str, ...]:
        """The names of the fields about the adapter's shape that were asked for; empty if none was."""
        shape = ("lora_rank", "lora_alpha", "lora_targets")
        return tuple(name for name in shape if getattr(self, name) is not None)


EMPTY_RECIPE = Recipe()
NAMES = tuple(field.name for field in fields(Recipe))
_WHOLE = frozenset({"n_epochs", "lora_rank", "bits", "max_tokens"})


def read(content: Mapping[str, Any], path: str = "luthier") -> Recipe:
    """A recipe from JSON values, checked; null is left to Luthier. `path` is where the object is in the request.

    Raises InvalidRequest, whose `param` is the field, for an unknown name or a wrong value.
    """
    values: dict[str, Any] = {}
    for name, value in content.items():
        if name not in NAMES:
            raise InvalidRequest(
                "unknown_field", f"{path}.{name} is unknown. {suggestion(name, NAMES)}", f"{path}.{name}"
            )
        if value is not None:
            values[name] = _value(name, value, path)
    recipe = Recipe(**values)
    check(recipe, path)
    return recipe


def suggestion(name: str, names: tuple[str, ...]) -> str:
    """A sentence that names what an unknown name probably means, else one that lists all names."""
    spelled = name.lower().replace("-", "_")
    likely = OTHER_TRAINERS.get(spelled)
    if likely == "epochs" and likely not in names:
        likely = "n_epochs"
    if likely is None or likely not in names:
        likely = next(iter(difflib.get_close_matches(spelled, names, 1, 0.6)), None)
    return f"Did you mean {likely}?" if likely is not None else f"Known are {', '.join(names)}."


def parse_number(value: object) -> object:
    """The number that a text spells, since YAML reads 2e-4 as text; every other value is returned unchanged.

    A whole number becomes an int; "nan" and "inf" become floats, for the caller to refuse.
    """
    if not isinstance(value, str):
        return value
    try:
        parsed = float(value)
    except ValueError:
        return value
    return int(parsed) if math.isfinite(parsed) and parsed.is_integer() else parsed


def check(recipe: Recipe, path: str = "luthier") -> None:
    """Raises InvalidRequest, whose `param` is the field, for values out of range and values that exclude each other."""
    _in_range("n_epochs", recipe.n_epochs, 1, MAX_RECIPE_EPOCHS, path)
    _in_range("lora_rank", recipe.lora_rank, 1, MAX_RANK, path)
    _in_range("max_tokens", recipe.max_tokens, 8, 1 << 24, path)
    _above_zero("learning_rate", recipe.learning_rate, 1.0, path)
    _above_zero("lora_alpha", recipe.lora_alpha, 65536.0, path)
    _share("lora_dropout", recipe.lora_dropout, 0.9, path)
    _share("weight_decay", recipe.weight_decay, 1.0, path)
    if recipe.bits is not None and recipe.bits not in BITS:
        raise _wrong("bits", recipe.bits, "4 or 8; leave it out for the weights as they are (16)", path)
    warmup = recipe.warmup
    if warmup is not None and not (0 <= warmup <= MAX_WARMUP_STEPS and (warmup < 1 or float(warmup).is_integer())):
        raise _wrong("warmup", warmup, "a share of the run from 0 to below 1, or a whole number of steps", path)
    if recipe.lora_targets is not None and not recipe.lora_targets:
        raise _wrong("lora_targets", "empty", "at least one name, such as q_proj", path)
    if recipe.full:
        adapter = [name for name in NAMES if name.startswith("lora_") and getattr(recipe, name) is not None]
        for name in [*adapter, *(["bits"] if recipe.bits is not None else [])]:
            why = "there is no adapter" if name != "bits" else "none of them stays frozen to be held in few bits"
            raise InvalidRequest(
                "settings_exclude",
                f"full tunes all weights, so {why}: leave {name} out, or full.",
                f"{path}.{name}",
            )


def check_rate(recipe: Recipe, multiplier: float | None, path: str = "luthier") -> None:
    """Raises InvalidRequest where the rate is given twice: as itself, and as a factor on the base model's own."""
    if recipe.learning_rate is not None and multiplier is not None:
        raise InvalidRequest(
            "settings_exclude",
            f"learning_rate is the peak rate itself, so learning_rate_multiplier ({multiplier:g}) has nothing to "
            "multiply. Send one of them.",
            f"{path}.learning_rate",
        )


def with_n_epochs(recipe: Recipe, n_epochs: int | None) -> Recipe:
    """The recipe with this number of epochs; None changes nothing."""
    return recipe if n_epochs is None else replace(recipe, n_epochs=n_epochs)


def _value(name: str, value: object, path: str) -> object:
    """One JSON value in its field's own type; text that says a number counts as one.

    Raises InvalidRequest for another kind of value; ranges are for `check`.
    """
    if name == "full":
        if not isinstance(value, bool):
            raise _wrong(name, value, "true or false", path)
        return value
    if name == "schedule":
        if value not in list(Schedule):
            raise _wrong(name, value, f"one of {', '.join(Schedule)}{_close(value)}", path)
        return Schedule(str(value))
    if name == "lora_targets":
        names = value.split(",") if isinstance(value, str) else value
        if not isinstance(names, list | tuple) or not all(isinstance(one, str) and one.strip() for one in names):
            raise _wrong(name, value, 'names of linear modules, such as ["q_proj", "v_proj"]', path)
        return tuple(dict.fromkeys(one.strip() for one in names))
    parsed = parse_number(value)
    expected = "a whole number" if name in _WHOLE else "a number"
    if isinstance(parsed, bool) or not isinstance(parsed, int | float):
        raise _wrong(name, value, expected, path)
    try:
        if not math.isfinite(parsed):
            raise _wrong(name, value, expected, path)
    except OverflowError:  # an integer beyond every float
        raise _wrong(name, "too large", expected, path) from None
    if name in _WHOLE:
        if parsed != int(parsed):
            raise _wrong(name, value, expected, path)
        return int(parsed)
    return float(parsed)


def _close(value: object) -> str:
    """` (did you mean NAME?)` for a word that is nearly a schedule's; else an empty string."""
    near = difflib.get_close_matches(str(value).lower(), [str(one) for one in Schedule], 1, 0.5)
    return f" (did you mean {near[0]}?)" if near else ""


def _in_range(name: str, value: int | None, least: int, most: int, path: str) -> None:
    """Raises InvalidRequest for a whole number outside its bounds; None passes."""
    if value is not None and not least <= value <= most:
        raise _wrong(name, value, f"a whole number from {least} to {most:,}", path)


def _above_zero(name: str, value: float | None, most: float, path: str) -> None:
    """Raises InvalidRequest for 0 or less, or more than `most`; None passes."""
    if value is not None and not 0 < value <= most:
        raise _wrong(name, value, f"a number above 0, at most {most:g}", path)


def _share(name: str, value: float | None, most: float, path: str) -> None:
    """Raises InvalidRequest for less than 0 or more than `most`; None passes."""
    if value is not None and not 0 <= value <= most:
        raise _wrong(name, value, f"a number from 0 to {most:g}", path)


def _wrong(name: str, value: object, expected: str, path: str) -> InvalidRequest:
    """The caller's 400 for a value, which it quotes, with the field in `param`."""
    shown = value if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)[:80]
    text = f"{name} is {shown}; it must be {expected}."
    return InvalidRequest("invalid_hyperparameter", text, f"{path}.{name}")
