"""Several ranks of one run: the losses of one rank, equal bytes each time, whatever is trained and however."""

import shutil
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rows
from equality import SEQUENCES, assert_same, randomise, with_gradients
from forked_ranks import to_the_end
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
from runs import PREFERENCES, TARGETS, MakeRun, contents, events

RECIPE = LoraRecipe(rank=4, alpha=8, targets=TARGETS)
VALID = b"".join(CLIPPY.read_bytes().splitlines(keepends=True)[:3])
KINDS: dict[str, dict[str, Any]] = {
    "supervised": {"valid": VALID},
    "dpo": {**PREFERENCES, "valid": rows.pairs(3), "n_epochs": 2},
    "full": {"lora": None, "tuning": Tuning.FULL, "learning_rate": 1e-3, "n_epochs": 2},
    "dropout": {"lora": RECIPE.model_copy(update={"dropout": 0.1}), "n_epochs": 2},
}


def losses(run: RunDirectory) -> list[float]:
    return [event["train_loss"] for event in events(run) if event["kind"] == "metrics"]


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
        return sum(part.nats for part in parts) / sum(part.tokens for part in parts)

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


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_have_the_losses_of_one_rank_and_equal_bytes_each_time(make_run: MakeRun, kind: str) -> None:
    size = 3 if kind == "supervised" else 2
    one, several, again = (make_run(name, ranks=n, **KINDS[kind]) for name, n in (("1", 1), ("n", size), ("m", size)))
    assert to_the_end(one, several, again) == [[0], [0] * size, [0] * size]
    assert events(several)[-1]["kind"] == "succeeded"
    assert contents(several) == contents(again)
    print(kind, [a - b for a, b in zip(losses(one), losses(several), strict=True)])
    assert contents(several).keys() == contents(one).keys()
    if kind != "dropout":  # whose random numbers are each rank's own
        assert losses(several) == pytest.approx(losses(one), rel=2e-3)
    assert len({event["step"] for event in events(several) if event["kind"] == "metrics"}) == len(losses(one))


def test_more_ranks_than_examples_in_a_batch_train_all_the_same(make_run: MakeRun) -> None:
    one, four = (make_run(f"{n}", ranks=n, n_epochs=1) for n in (1, 4))
    assert to_the_end(one, four) == [[0], [0] * 4]
    assert losses(four) == pytest.approx(losses(one), rel=2e-3)


def test_ranks_go_on_from_an_adapter_and_from_one_another(make_run: MakeRun) -> None:
    first = make_run("first", n_epochs=1, ranks=2)
    one, two = (make_run(f"{n}", ranks=n, n_epochs=1, continued=True) for n in (1, 2))
    assert to_the_end(first) == [[0, 0]]
    for run in (one, two):
        shutil.copytree(first.checkpoints / "step-000004", run.parent)
    assert to_the_end(one, two) == [[0], [0, 0]]
    assert losses(two) == pytest.approx(losses(one), rel=2e-3)
    assert losses(two)[0] < losses(first)[0]
