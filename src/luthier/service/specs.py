"""What a trainer is told: a base model's catalog entry and hyperparameters that are numbers -> TrainSpec."""

from pathlib import Path

from luthier.catalog import BaseModelEntry, HubSource, Tuning
from luthier.core import hyperparameters
from luthier.core.errors import InvalidRequest
from luthier.core.hyperparameters import ResolvedHyperparameters
from luthier.core.states import Method
from luthier.run_directory import TrainSpec

FULL_SHARE_OF_RATE = 0.1
"""All weights want about a tenth of the rate of an adapter ("LoRA Without Regret", Thinking Machines, 2025)."""


def check_method(base: BaseModelEntry, method: Method) -> None:
    """Raises InvalidRequest for a method that this base model's tuning does not know."""
    if method is Method.DPO and base.tuning is Tuning.FULL:
        raise InvalidRequest(
            "method_not_supported",
            f"Method dpo trains an adapter, and all weights of {base.name} are tuned. Take a base model whose entry in "
            'the catalog has tuning = "lora", or method supervised.',
            "method",
        )


def make(
    base: BaseModelEntry,
    base_folder: Path,
    chosen: ResolvedHyperparameters,
    *,
    job_id: str,
    seed: int,
    has_validation: bool,
    threads: int | None,
    parent_model: str | None = None,
    save_interval_s: float = 60.0,
    early_stop_patience: int | None = None,
) -> TrainSpec:
    full = base.tuning is Tuning.FULL
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
        learning_rate=hyperparameters.peak_rate(base.learning_rate, chosen) * (FULL_SHARE_OF_RATE if full else 1.0),
        lora=None if full else base.lora,
        method=Method.SUPERVISED if chosen.beta is None else Method.DPO,
        beta=chosen.beta,
        has_validation=has_validation,
        threads=threads,
        parent_model=parent_model,
        save_interval_s=save_interval_s,
        early_stop_patience=early_stop_patience,
        base_licence=base.licence,
        base_repository=base.source.repository if isinstance(base.source, HubSource) else None,
    )
