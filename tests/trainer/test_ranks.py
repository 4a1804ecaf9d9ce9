"""Several ranks of one run: the losses of one rank, equal bytes each time, whatever is trained and however."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import rows
from equality import SEQUENCES, assert_same, randomise, with_gradients
from forked_ranks import collectives, to_the_end
from luthier.core.states import Tuning
from luthier.data.rendering.renderer import Rendered
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.train_spec import LoraRecipe
from luthier.trainer.dataset import packing
from luthier.trainer.dataset.training_examples import Dataset
from luthier.trainer.model import tuned_model
from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.objectives.sft import SupervisedObjective
from luthier.trainer.ranks.rank_group import RankGroup
from repository import CLIPPY
from run_fixtures import maker
from runs import PREFERENCES, TARGETS, contents, events
from training import train

RECIPE = LoraRecipe(rank=4, alpha=8, targets=TARGETS)
VALID = b"".join(CLIPPY.read_bytes().splitlines(keepends=True)[:3])
SUPERVISED: dict[str, Any] = {"valid": VALID, "n_epochs": 2}
PAIRS: dict[str, Any] = {**PREFERENCES, "valid": rows.pairs(3), "n_epochs": 1}
FULL: dict[str, Any] = {"lora": None, "tuning": Tuning.FULL, "learning_rate": 1e-3, "n_epochs": 1}
DROPOUT: dict[str, Any] = {"lora": RECIPE.model_copy(update={"dropout": 0.1}), "n_epochs": 1}
CONTINUED: dict[str, Any] = {"continued": True, "n_epochs": 1}
SHARED: dict[str, Any] = {"ranks": 2, "shard_base": True}
RUNS: dict[str, dict[str, Any]] = {
    "supervised": SUPERVISED,
    "supervised-3": SUPERVISED | {"ranks": 3},
    "supervised-3-again": SUPERVISED | {"ranks": 3},
    "supervised-4": SUPERVISED | {"ranks": 4},  # a batch has three examples
    "supervised-shared": SUPERVISED | SHARED,
    "supervised-shared-again": SUPERVISED | SHARED,
    "dpo": PAIRS,
    "dpo-2": PAIRS | {"ranks": 2},
    "dpo-2-again": PAIRS | {"ranks": 2},
    "dpo-shared": PAIRS | SHARED,
    "full": FULL,
    "full-2": FULL | {"ranks": 2},
    "full-2-again": FULL | {"ranks": 2},
    "dropout-2": DROPOUT | {"ranks": 2},
    "dropout-2-again": DROPOUT | {"ranks": 2},
    "continued": CONTINUED,
    "continued-2": CONTINUED | {"ranks": 2},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, base: Path) -> dict[str, RunDirectory]:
    """All runs, to their ends, by one process that imports torch once."""
    make = maker(tmp_path_factory.mktemp("ranks"), base)
    parent = make("parent", n_epochs=1)
    train(parent)
    runs = {name: make(name, **spec) for name, spec in RUNS.items()}
    for name in ("continued", "continued-2"):
        shutil.copytree(parent.checkpoints / "step-000004", runs[name].parent)
    statuses = dict(zip(runs, to_the_end(*runs.values()), strict=True))
    assert statuses == {name: [0] * spec.get("ranks", 1) for name, spec in RUNS.items()}
    return runs


def steps(run: RunDirectory) -> list[dict[str, Any]]:
    return [event for event in events(run) if event["kind"] == "metrics"]


def figures(run: RunDirectory, name: str) -> list[Any]:
    return [event[name] for event in steps(run) if name in event]


@pytest.fixture(scope="module")
def tuned(base: Any) -> TunedModel:
    tuned_model.configure_process(1, 0)
    return randomise(tuned_model.attach_adapter(tuned_model.load_base(base, torch.float32), RECIPE, 0, None))


@settings(deadline=None, max_examples=20)
@given(SEQUENCES, st.integers(1, 4), st.integers(5, 60))
def test_shares_of_a_batch_have_together_its_loss_and_gradients(
    tuned: TunedModel, sequences: list[Rendered], size: int, budget: int
) -> None:
    dataset, indexes = Dataset(tuple((one,) for one in sequences)), range(len(sequences))
    whole = with_gradients(tuned, lambda: SupervisedObjective(dataset).gradients(tuned, indexes, 10_000).loss)
    parts: list[Any] = []

    def compute() -> float:
        for rank in range(size):
            objective = SupervisedObjective(dataset, RankGroup(rank, size))
            parts.append(objective.gradients(tuned, indexes, budget).on_host())
        return float(sum(part.nats for part in parts) / sum(part.tokens for part in parts))

    assert_same(whole, with_gradients(tuned, compute))
    for place in range(len(sequences)):
        assert sum(part.mean_losses[place] > 0 for part in parts) == 1, "each example is one rank's"


@given(st.lists(st.integers(2, 40), max_size=12), st.integers(1, 5))
def test_shares_hold_each_example_once_and_differ_by_no_more_than_the_longest(lengths: list[int], size: int) -> None:
    examples = [(Rendered(tuple(range(length)), (1.0,) * length, 1),) for length in lengths]
    shares = packing.split_over_ranks(examples, size)
    assert sorted(index for share in shares for index in share) == list(range(len(lengths)))
    tokens = [sum(lengths[index] for index in share) for share in shares]
    assert max(tokens) - min(tokens) <= max(lengths, default=0)
    assert packing.split_over_ranks(examples, 1) == [list(range(len(lengths)))]


def test_collectives_give_all_ranks_the_same_and_add_in_their_order() -> None:
    results = collectives(3)
    mine = [torch.randn(100, generator=torch.Generator().manual_seed(rank)) for rank in range(3)]
    summed = mine[0] + mine[1] + mine[2]
    assert not torch.equal(summed, mine[2] + mine[1] + mine[0]), "the order is to be seen in the bits"
    for rank, result in enumerate(results):
        assert result["rank"] == rank
        assert result["large"] == summed.tolist()
        assert result["small"] == summed[:10].tolist()
        assert result["sums"] == [0.1 + 0.1 + 0.1, 3.0]
        assert (result["any"], result["told"], result["most"]) == ([True, False], [True, False], 0)
        assert result["copied"] == [0.0] * 3
        assert "Words of rank 1 are not those of rank 0" in result["refusal"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("one", "several", "tolerance"),
    [
        ("supervised", "supervised-3", 2e-3),
        ("supervised", "supervised-4", 2e-3),
        ("supervised", "supervised-shared", 2e-3),
        ("dpo", "dpo-2", 2e-2),  # a loss near zero: the same rounding is a larger share of it
        ("dpo", "dpo-shared", 2e-2),
        ("full", "full-2", 2e-3),
        ("continued", "continued-2", 2e-3),
    ],
)
def test_ranks_have_the_losses_of_one_rank_to_rounding(
    trained: dict[str, RunDirectory], one: str, several: str, tolerance: float
) -> None:
    for figure in ("train_loss", "valid_loss", "full_valid_loss", "gradient_norm"):
        expected = figures(trained[one], figure)
        differences = [abs(a - b) / abs(a) for a, b in zip(expected, figures(trained[several], figure), strict=True)]
        print(several, figure, f"{max(differences, default=0):.1e}")
        assert max(differences, default=0) < (tolerance if "loss" in figure else 10 * tolerance), figure
    example_losses = [event["example_losses"] for event in steps(trained[one]) if "example_losses" in event]
    for expected, losses in zip(example_losses, figures(trained[several], "example_losses"), strict=True):
        assert losses == pytest.approx(expected, rel=5e-3)
    assert contents(trained[one]).keys() == contents(trained[several]).keys()


@pytest.mark.parametrize("name", ["supervised-3", "supervised-shared", "dpo-2", "full-2", "dropout-2"])
def test_as_many_ranks_give_the_same_bytes_each_time(trained: dict[str, RunDirectory], name: str) -> None:
    assert contents(trained[name]) == contents(trained[f"{name}-again"])
    assert contents(trained[name])


def test_checkpoint_of_a_shared_base_is_an_adapter_like_any_other(trained: dict[str, RunDirectory]) -> None:
    whole, shared = (trained[name].checkpoints / "step-000008" for name in ("supervised", "supervised-shared"))
    one, other = (load_file(folder / "adapter_model.safetensors") for folder in (whole, shared))
    assert {name: tensor.shape for name, tensor in one.items()} == {name: one.shape for name, one in other.items()}
    assert (whole / "adapter_config.json").read_bytes() == (shared / "adapter_config.json").read_bytes()
