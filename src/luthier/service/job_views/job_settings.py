"""What each setting of a job was asked to be, what it became, and why, in words. Pure."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from luthier.catalog import BaseModelEntry
from luthier.core.states import Method, Tuning
from luthier.core.training import hyperparameters
from luthier.core.training.hyperparameters import Hyperparameters, ResolvedHyperparameters
from luthier.core.training.recipe import Recipe, Schedule
from luthier.run_directory.train_spec import LoraRecipe
from luthier.service.jobs import train_specs

AUTO = "auto"
NOT_YET = "It is chosen once the files are checked."
REQUESTED = "As requested."

Value = int | float | str | list[str] | None


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: the value that was asked for ("auto": left to the service; None: not sent, or not known any more),
    the value that the run has (None: not known yet, or none), and a sentence on how it came about.
    """

    name: str
    requested: Value
    value: Value
    reason: str


@dataclass(frozen=True, slots=True)
class SettingsBasis:
    """What settings follow from. `base` is the catalog's entry with the recipe applied, None if it is gone; `asked` is
    None for a job of an older version; `resolved` and `n_examples` are None before the files are checked; `parent` is
    the shape of the adapter that the job continues from, None if it starts from the base model.
    """

    method: Method
    recipe: Recipe
    base: BaseModelEntry | None
    asked: Hyperparameters | None
    resolved: ResolvedHyperparameters | None
    n_examples: int | None
    seed: int | None
    seed_sent: bool | None
    patience: int | None
    continues: bool = False
    parent: LoraRecipe | None = None


def list_settings(basis: SettingsBasis) -> list[Setting]:
    """Every setting of a job, in the order in which they are shown."""
    return [*_hyperparameters(basis), *_schedule(basis), *_tuning(basis)]


def _hyperparameters(basis: SettingsBasis) -> Iterator[Setting]:
    """What the vendors call hyperparameters, the learning rate that they give, and the seed."""
    asked, resolved = basis.asked, basis.resolved
    names = ["n_epochs", "batch_size", "learning_rate_multiplier"]
    for name in [*names, "beta"] if basis.method is Method.DPO else names:
        sent = None if asked is None else getattr(asked, name)
        requested = None if asked is None else AUTO if sent is None else sent
        value = sent if resolved is None else getattr(resolved, name)
        yield Setting(name, requested, value, _hyperparameter_reason(basis, name, requested))
    rate, reason = _learning_rate(basis)
    yield Setting("learning_rate", basis.recipe.learning_rate, rate, reason)
    drawn = "It was not sent, so it was drawn at random; the same seed gives the same model."
    seed_reason = {True: REQUESTED, False: drawn, None: "Requested, or drawn at random if it was not sent."}
    yield Setting("seed", basis.seed if basis.seed_sent else None, basis.seed, seed_reason[basis.seed_sent])


def _hyperparameter_reason(basis: SettingsBasis, name: str, requested: Value) -> str:
    """Why a hyperparameter has its value."""
    if requested is None:
        return "The request is not stored with a job of an older version."
    if requested != AUTO:
        return REQUESTED
    if name == "beta":
        return f"The default, {hyperparameters.DEFAULT_BETA:g}."
    if name == "learning_rate_multiplier":
        if basis.recipe.learning_rate is not None:
            return "It follows from the learning rate that was requested."
        return "1, which is the base model's own learning rate."
    if basis.resolved is None:
        return NOT_YET
    return auto_reason(name, basis.n_examples, basis.resolved.batch_size)


def auto_reason(name: str, n_examples: int | None, batch_size: int) -> str:
    """Why "auto" has become its number of epochs or its batch size (docs/hyperparameters.md has the rule)."""
    if n_examples is None:
        return "By the number of examples."
    examples = f"{n_examples:,} examples"
    if name == "batch_size":
        share, root = hyperparameters.BATCH_SHARE, math.sqrt(n_examples)
        return (
            f"{examples}: {share:g} of the square root of their number is {share * root:.1f}, and the nearest power of "
            "two from 2 to 32 is taken."
        )
    if n_examples > 100_000:
        return f"{examples}: above 100,000 one epoch is enough."
    if n_examples > 10_000:
        return f"{examples}: above 10,000 two epochs are enough."
    if n_examples >= hyperparameters.FEW_EXAMPLES:
        return f"{examples}: three epochs, as for every file of {hyperparameters.FEW_EXAMPLES} to 10,000 examples."
    steps = math.ceil(n_examples / batch_size)
    return (
        f"{examples} are few: as many epochs of {steps} steps as give {hyperparameters.FEW_EXAMPLES_STEPS} steps, at "
        f"most {hyperparameters.FEW_EXAMPLES_MAX_EPOCHS} epochs."
    )


def _learning_rate(basis: SettingsBasis) -> tuple[float | None, str]:
    """The peak learning rate of the run, and why."""
    if basis.recipe.learning_rate is not None:
        return basis.recipe.learning_rate, REQUESTED
    if basis.base is None:
        return None, "The base model is not in the catalog any more."
    parts = [f"{basis.base.name}'s own rate, {basis.base.learning_rate:g}"]
    if basis.method is Method.DPO:
        parts.append(f"times {hyperparameters.DPO_RATE:g} for preferences")
    if basis.base.tuning is Tuning.FULL:
        parts.append(f"times {train_specs.FULL_SHARE_OF_RATE:g} as all weights are tuned")
    if basis.resolved is None:
        return None, f"{', '.join(parts)}, times the multiplier."
    parts.append(f"times the multiplier {basis.resolved.learning_rate_multiplier:g}")
    return train_specs.peak_rate(basis.base, basis.resolved), f"{', '.join(parts)}."


def _schedule(basis: SettingsBasis) -> Iterator[Setting]:
    """How the learning rate moves, weight decay, and the end of the run."""
    recipe = basis.recipe
    schedule = recipe.schedule or Schedule.LINEAR
    default = "The default: it falls to a tenth of the peak."
    yield Setting(
        "schedule", _text(recipe.schedule), str(schedule), REQUESTED if recipe.schedule is not None else default
    )
    steps = "The default: over a tenth of the steps, at most 10, the rate rises to its peak."
    share = "As requested: below 1 a share of the steps, else a number of steps."
    yield Setting("warmup", recipe.warmup, recipe.warmup, steps if recipe.warmup is None else share)
    decay = recipe.weight_decay
    yield Setting("weight_decay", decay, decay or 0.0, "The default: none." if decay is None else REQUESTED)
    ends = "Not requested: the run has all of its epochs."
    if basis.patience is not None:
        ends = f"As requested: it ends after {basis.patience} epochs without a better validation loss."
    yield Setting("early_stopping", basis.patience, basis.patience, ends)


def _tuning(basis: SettingsBasis) -> Iterator[Setting]:
    """What is trained: the adapter and its shape, or all weights; on weights of how many bits, on rows how long."""
    recipe, base = basis.recipe, basis.base
    full = {None: None, True: "full", False: "lora"}[recipe.full]
    if base is None:
        yield Setting("tuning", full, None, "The base model is not in the catalog any more.")
        return
    own = f"The default of {base.name}."
    inherited = "That of the model that the job continues from."
    tuning_reason = inherited if basis.continues else own if full is None else REQUESTED
    yield Setting("tuning", full, str(base.tuning), tuning_reason)
    if base.tuning is Tuning.LORA and base.lora is not None:
        shape = basis.parent or base.lora
        values: list[tuple[str, Value, Value]] = [
            ("lora_rank", recipe.lora_rank, shape.rank),
            ("lora_alpha", recipe.lora_alpha, shape.alpha),
            ("lora_targets", _list(recipe.lora_targets), list(shape.targets)),
        ]
        for name, requested, value in values:
            reason = inherited if basis.continues else own if requested is None else REQUESTED
            if name == "lora_alpha" and requested is None and recipe.lora_rank is not None and not basis.continues:
                reason = "It keeps the default's ratio to the rank, and so the scale of what is learned."
            yield Setting(name, requested, value, reason)
        dropout = recipe.lora_dropout
        yield Setting("lora_dropout", dropout, base.lora.dropout, own if dropout is None else REQUESTED)
    bits = train_specs.quantization_of(base) or 16
    bits_reason = "The weights as they are." if recipe.bits is None else REQUESTED
    yield Setting("bits", recipe.bits, bits, bits_reason)
    longest = f"The context of {base.name}: longer rows are refused, and none is cut."
    yield Setting(
        "max_tokens", recipe.max_tokens, base.context_tokens, longest if recipe.max_tokens is None else REQUESTED
    )


def _text(value: Schedule | None) -> str | None:
    return None if value is None else str(value)


def _list(value: tuple[str, ...] | None) -> list[str] | None:
    return None if value is None else list(value)
