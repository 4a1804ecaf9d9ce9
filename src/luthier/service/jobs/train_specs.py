"""The TrainSpec of a run, from a base model's catalog entry, a recipe and resolved hyperparameters."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from luthier.catalog import BaseModelEntry, Catalog
from luthier.core.errors import InvalidRequest
from luthier.core.states import Method, Tuning
from luthier.core.training import hyperparameters
from luthier.core.training.hyperparameters import Hyperparameters, ResolvedHyperparameters
from luthier.core.training.rank_plan import ONE_RANK, RankPlan
from luthier.core.training.recipe import Recipe, Schedule
from luthier.model_folder import BaseModelFolder, CheckpointFolder
from luthier.model_source import safetensors_header
from luthier.run_directory.train_spec import LoraRecipe, TrainSpec

FULL_SHARE_OF_RATE = 0.1
"""Full fine-tuning needs about a tenth of an adapter's rate ("LoRA Without Regret", Thinking Machines, 2025)."""


def check_method(base: BaseModelEntry, method: Method) -> None:
    """Raises InvalidRequest for DPO on a base model of which all weights are tuned: it needs an adapter."""
    if method is Method.DPO and base.tuning is Tuning.FULL:
        raise InvalidRequest(
            "method_not_supported",
            f"Method dpo trains an adapter, and all weights of {base.name} are tuned. Leave out `full`, use a base "
            'model whose entry in the catalog has tuning = "lora", or method supervised.',
            "method",
        )


def apply_recipe(base: BaseModelEntry, folder: Path, recipe: Recipe, field: str = "luthier") -> BaseModelEntry:
    """The entry for this run: the tuning that the recipe requests, the context at most `max_tokens`.

    `folder` is that of the prepared base model, for the sizes of its matrices. Raises InvalidRequest, with the setting
    below `field` as its param, for what this base model does not support.
    """
    entry = base
    if recipe.max_tokens is not None:
        if recipe.max_tokens > base.context_tokens:
            raise _refused(
                "max_tokens",
                f"max_tokens is {recipe.max_tokens:,}; {base.name} has a context of {base.context_tokens:,} tokens: "
                f"give at most {base.context_tokens:,}.",
                field,
            )
        entry = entry.model_copy(update={"context_tokens": recipe.max_tokens})
    if recipe.full:
        if quantization_of(base) is not None:
            text = f"full tunes all weights, and those of {base.name} are quantized. Use the plain base model."
            raise _refused("full", text, field)
        return entry.model_copy(update={"tuning": Tuning.FULL})
    adapter_settings = [name for name in (*recipe.adapter_fields, "lora_dropout") if getattr(recipe, name) is not None]
    if base.tuning is Tuning.FULL and recipe.full is None:
        if adapter_settings:
            name = adapter_settings[0]
            text = f"{name} shapes an adapter, and all weights of {base.name} are tuned by its catalog entry."
            raise _refused(name, f"{text} Send full: false to train an adapter.", field)
        return entry
    if base.lora is None:
        text = f"The catalog entry of {base.name} has no `lora` to train an adapter by: add one, or leave out full."
        raise _refused("full", text, field)
    return entry.model_copy(update={"tuning": Tuning.LORA, "lora": _lora(base.lora, base, folder, recipe, field)})


def quantized_base(
    catalog: Catalog, base: BaseModelEntry, bits: int, is_ready: Callable[[str], bool], field: str = "luthier"
) -> BaseModelEntry:
    """The quantized variant of a base model, which has a name and a folder of its own; `is_ready` says of a name
    whether that folder is complete.

    Raises InvalidRequest if there is none, or if it has not been pulled.
    """
    if (base_bits := quantization_of(base)) is not None:
        text = (
            f"bits is {bits}, and {base.name} has weights of {base_bits} bits. Leave bits out, or use the plain base."
        )
        raise _refused("bits", text, field)
    variant = catalog.in_few_bits(base, f"{bits}bit")
    if variant is None:
        text = f"The catalog entry of {base.name} has no `lora`, and weights of few bits are trained with an adapter."
        raise _refused("bits", text, field)
    if not is_ready(variant.name):
        raise InvalidRequest(
            "model_not_ready",
            f"Weights of {bits} bits are a base model of their own, {variant.name}, and it is not on this machine yet. "
            f"Run: luthier models pull {variant.name}",
            f"{field}.bits",
        )
    return variant


def quantization_of(base: BaseModelEntry) -> int | None:
    """The bits of a base model's weights in training; None if they are not quantized."""
    if base.lora is None or base.tuning is Tuning.FULL or base.lora.quantization is None:
        return None
    return int(base.lora.quantization.removesuffix("bit"))


def resolve(
    base: BaseModelEntry, requested: Hyperparameters, recipe: Recipe, n_examples: int, method: Method
) -> ResolvedHyperparameters:
    """Every "auto" as a number, from the number of examples; a requested learning rate as the multiplier for it."""
    resolved = hyperparameters.resolve(requested, n_examples, method)
    if recipe.learning_rate is None:
        return resolved
    return replace(resolved, learning_rate_multiplier=recipe.learning_rate / peak_rate(base, resolved))


def peak_rate(base: BaseModelEntry, chosen: ResolvedHyperparameters) -> float:
    """The highest learning rate of a run for this method, multiplier and tuning: a tenth if all weights are tuned."""
    full = FULL_SHARE_OF_RATE if base.tuning is Tuning.FULL else 1.0
    return hyperparameters.peak_rate(base.learning_rate, chosen) * full


def adapter_shape_of(parent: Path, requested: LoraRecipe) -> LoraRecipe:
    """The shape of the adapter in the folder `parent`, which a run that continues from it has, whatever its recipe.

    The requested shape if the folder has none that can be read: the trainer then reports it.
    """
    try:
        config = json.loads(CheckpointFolder(parent).adapter_config.read_bytes())
    except (OSError, ValueError):
        return requested
    return adapter_shape(config, requested)


def adapter_shape(config: object, requested: LoraRecipe) -> LoraRecipe:
    """The shape that a PEFT adapter's config has; the requested one if the config cannot be read."""
    try:
        values: Any = config
        return requested.model_copy(
            update={
                "rank": int(values["r"]),
                "alpha": float(values["lora_alpha"]),
                "targets": tuple(map(str, values["target_modules"])),
            }
        )
    except (ValueError, KeyError, TypeError):
        return requested


def make_spec(
    base: BaseModelEntry,
    base_folder: Path,
    chosen: ResolvedHyperparameters,
    *,
    job_id: str,
    seed: int,
    has_validation: bool,
    threads: int | None,
    recipe: Recipe | None = None,
    parent_model: str | None = None,
    save_interval_s: float = 60.0,
    early_stop_patience: int | None = None,
    plan: RankPlan = ONE_RANK,
) -> TrainSpec:
    """The spec of a run on `base`, the result of `apply_recipe`; nothing is written.

    `threads` is CPU threads of a rank, None for one per core; `save_interval_s` the seconds between two resume points;
    `early_stop_patience` in epochs, None for no early stopping.
    """
    recipe = recipe or Recipe()
    full = base.tuning is Tuning.FULL
    ranks = min(plan.ranks, chosen.batch_size)
    return TrainSpec(
        job_id=job_id,
        base_model=base.name,
        base_folder=base_folder,
        continued=parent_model is not None,
        context_tokens=base.context_tokens,
        abilities=tuple(sorted(base.abilities)),
        seed=seed,
        n_epochs=chosen.n_epochs,
        batch_size=chosen.batch_size,
        learning_rate=recipe.learning_rate or peak_rate(base, chosen),
        tuning=base.tuning,
        lora=None if full else base.lora,
        method=chosen.method,
        beta=chosen.beta,
        has_validation=has_validation,
        threads=threads,
        ranks=ranks,
        shard_base=plan.shard_base and ranks > 1 and not full and quantization_of(base) is None,
        parent_model=parent_model,
        schedule=recipe.schedule or Schedule.LINEAR,
        warmup=recipe.warmup,
        weight_decay=recipe.weight_decay or 0.0,
        save_interval_s=save_interval_s,
        early_stop_patience=early_stop_patience,
        base_licence=base.licence,
        base_repository=base.hub_id,
    )


def _lora(default: LoraRecipe, base: BaseModelEntry, folder: Path, recipe: Recipe, field: str) -> LoraRecipe:
    """The adapter's shape. Without an alpha the ratio of alpha to rank stays, and so the scale of the update.

    Raises InvalidRequest for a rank above that of the matrices, and for target modules that the model does not have.
    """
    rank = recipe.lora_rank or default.rank
    shapes = _linear_modules(folder) if recipe.adapter_fields else {}
    if shapes and rank > (most := max(map(min, shapes.values()))):
        text = f"lora_rank is {rank}; the matrices of {base.name} have at least {most} rows or columns: the rank "
        raise _refused("lora_rank", text + "cannot be greater.", field)
    targets = recipe.lora_targets or default.targets
    missing = [name for name in targets if name not in shapes]
    if recipe.lora_targets is not None and shapes and missing:
        names = ", ".join(sorted(shapes))
        text = f"lora_targets names {', '.join(missing)}, which {base.name} does not have. It has: {names}."
        raise InvalidRequest("lora_targets_not_found", text, f"{field}.lora_targets")
    changes = {
        "rank": rank,
        "alpha": recipe.lora_alpha or default.alpha / default.rank * rank,
        "dropout": default.dropout if recipe.lora_dropout is None else recipe.lora_dropout,
        "targets": targets,
    }
    return default.model_copy(update=changes)


def _linear_modules(folder: Path) -> Mapping[str, tuple[int, ...]]:
    """The linear modules of a prepared base model's layers: the shape (rows, columns) by name, from the header of the
    weights; empty if that cannot be read.
    """
    try:
        entries = safetensors_header.read(BaseModelFolder(folder).hf.weights)
    except (InvalidRequest, OSError):
        return {}
    matrices = [one for one in entries if ".layers." in one.name and len(one.shape) == 2]
    return {one.name.removesuffix(".weight").rpartition(".")[2]: one.shape for one in matrices}


def _refused(name: str, text: str, field: str) -> InvalidRequest:
    """The error about a setting of the recipe, whose param is that setting below `field`."""
    return InvalidRequest("invalid_hyperparameter", text, f"{field}.{name}")
