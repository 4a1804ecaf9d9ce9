"""The spec of a run on a base model, from its catalog entry."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fakes import BASE
from luthier import catalog
from luthier.core.errors import InvalidRequest
from luthier.core.models import Job
from luthier.core.states import Method, Tuning
from luthier.core.training.hyperparameters import ResolvedHyperparameters
from luthier.core.training.rank_plan import RankPlan
from luthier.run_directory.train_spec import TrainSpec
from luthier.service.context import Context
from luthier.service.jobs import train_specs


def made(name: str, parent: str | None = None) -> TrainSpec:
    return train_specs.make_spec(
        catalog.load().entries[name],
        Path("base"),
        ResolvedHyperparameters(
            n_epochs=2, batch_size=4, learning_rate_multiplier=0.5, beta=None, method=Method.SUPERVISED
        ),
        job_id="ftjob-1",
        seed=3,
        has_validation=True,
        threads=None,
        parent_model=parent,
    )


def test_spec_has_rate_licence_and_abilities_of_the_entry() -> None:
    spec = made("llama-3.2-1b-instruct")
    assert spec.learning_rate == 2e-4
    assert (spec.base_licence, spec.base_repository) == ("Llama 3.2 Community", "meta-llama/Llama-3.2-1B-Instruct")
    assert (spec.abilities, spec.continued, spec.parent_model) == (("tools",), False, None)


def test_spec_of_full_tuning_has_no_adapter_and_a_tenth_of_the_rate() -> None:
    entry = catalog.load().entries["llama-3.2-1b-instruct"].model_copy(update={"tuning": Tuning.FULL})
    chosen = ResolvedHyperparameters(
        n_epochs=2, batch_size=4, learning_rate_multiplier=1.0, beta=None, method=Method.SUPERVISED
    )
    spec = train_specs.make_spec(entry, Path("base"), chosen, job_id="j", seed=3, has_validation=False, threads=None)
    assert spec.lora is None
    assert spec.learning_rate == pytest.approx(4e-5)


def test_spec_names_the_hub_repository_of_other_sources_too() -> None:
    spec = made("smollm2-135m-instruct", parent="smollm2-135m-instruct.ft-1")
    assert spec.base_repository == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert (spec.continued, spec.parent_model) == (True, "smollm2-135m-instruct.ft-1")


def test_preferences_are_refused_at_once_where_all_weights_are_tuned(
    context: Context, create: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries: Any = context.catalog.listed
    monkeypatch.setitem(entries, BASE, entries[BASE].model_copy(update={"tuning": Tuning.FULL}))
    create(method=Method.SUPERVISED)
    with pytest.raises(InvalidRequest, match='tuning = "lora"') as caught:
        create(method=Method.DPO)
    assert (caught.value.code, caught.value.param) == ("method_not_supported", "method")


@pytest.mark.parametrize(
    ("plan", "changes", "ranks", "shard_base"),
    [
        (RankPlan(), {}, 1, False),
        (RankPlan(3), {}, 3, False),
        (RankPlan(9), {}, 4, False),  # a batch has four examples
        (RankPlan(2, shard_base=True), {}, 2, True),
        (RankPlan(1, shard_base=True), {}, 1, False),
        (RankPlan(2, shard_base=True), {"tuning": Tuning.FULL}, 2, False),
    ],
)
def test_spec_has_the_ranks_of_the_plan_as_far_as_the_job_can_use_them(
    plan: RankPlan, changes: dict[str, Any], ranks: int, shard_base: bool
) -> None:
    entry = catalog.load().entries["llama-3.2-1b-instruct"].model_copy(update=changes)
    chosen = ResolvedHyperparameters(
        n_epochs=2, batch_size=4, learning_rate_multiplier=1.0, beta=None, method=Method.SUPERVISED
    )
    spec = train_specs.make_spec(
        entry, Path("base"), chosen, job_id="j", seed=3, has_validation=False, threads=None, plan=plan
    )
    assert (spec.ranks, spec.shard_base) == (ranks, shard_base)
