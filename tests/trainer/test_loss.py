"""The packed batch computes what the textbook does: same loss, same gradients, however examples are grouped."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from equality import SEQUENCES, assert_same, compiled, randomise, with_gradients
from luthier.data.rendering.renderer import Rendered
from luthier.run_directory.train_spec import LoraRecipe
from luthier.trainer.dataset import packing
from luthier.trainer.model import head_loss, optimizer_setup, probes, tuned_model
from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.objectives import evaluate, sft
from runs import TARGETS, bare_spec


@pytest.fixture(scope="module", params=["fused", "modules"])
def tuned(base: Path, request: pytest.FixtureRequest) -> TunedModel:
    """The tiny model in float32, once by the fused decoder and once by the modules of transformers."""
    tuned_model.configure_process(1, 0)
    recipe = LoraRecipe(rank=4, alpha=8, targets=TARGETS)
    kernels = compiled() if request.param == "fused" else None
    return randomise(tuned_model.attach_adapter(tuned_model.load_base(base, torch.float32), recipe, 0, None, kernels))


def textbook(tuned: TunedModel, sequences: list[Rendered]) -> float:
    """Each sequence alone, all logits, cross-entropy over them, mean over the supervised tokens of the step."""
    total = torch.tensor(0.0)
    for item in sequences:
        logits_TV = tuned.causal(input_ids=torch.tensor([item.token_ids]), use_cache=False).logits[0, :-1]
        nats_T = functional.cross_entropy(logits_TV, torch.tensor(item.token_ids[1:]), reduction="none")
        total = total + (nats_T * torch.tensor(item.loss_weights[1:])).sum()
    loss = total / sum(sum(map(bool, item.loss_weights[1:])) for item in sequences)
    loss.backward()
    return float(loss.detach())


@settings(deadline=None, max_examples=25)
@given(SEQUENCES)
def test_packed_row_has_the_loss_and_gradients_of_examples_alone(tuned: TunedModel, sequences: list[Rendered]) -> None:
    packed = with_gradients(tuned, lambda: sft.gradients(tuned, sequences, 10_000).loss)
    alone = with_gradients(tuned, lambda: textbook(tuned, sequences))
    assert len(packed[1]) == len(tuned.parameters)
    assert_same(packed, alone)


@settings(deadline=None, max_examples=25)
@given(SEQUENCES, st.integers(1, 30))
def test_accumulation_in_groups_of_any_size_changes_nothing(
    tuned: TunedModel, sequences: list[Rendered], budget: int
) -> None:
    whole = with_gradients(tuned, lambda: sft.gradients(tuned, sequences, 10_000).loss)
    grouped = with_gradients(tuned, lambda: sft.gradients(tuned, sequences, budget).loss)
    assert_same(whole, grouped)


@pytest.mark.parametrize("fused", [True, False])
def test_head_in_chunks_gives_the_full_loss_its_gradient_and_accuracy(fused: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden_NH = torch.randn(300, 8, generator=generator, requires_grad=True)
    head_VH = torch.randn(250_000, 8, generator=generator)  # 134 positions a chunk
    labels_N = torch.randint(250_000, (300,), generator=generator)
    weights_N = torch.randint(2, (300,), generator=generator).float()
    head = head_loss.head_of(head_VH, compiled() if fused else None)
    logits_NV = functional.linear(hidden_NH, head_VH)
    wanted = (functional.cross_entropy(logits_NV, labels_N, reduction="none") * weights_N).sum() / 300
    (gradient_NH,) = torch.autograd.grad(wanted, hidden_NH)
    gradient, sums = head_loss.loss_with_gradient(hidden_NH.detach(), head, labels_N, weights_N, 300)
    assert sums.loss == pytest.approx(float(wanted.detach()), rel=1e-5)
    assert sums.correct == int((logits_NV.argmax(1) == labels_N).sum())

    # Sums over 250,000 classes in float32: the order in which a processor adds them moves the last digits.
    torch.testing.assert_close(gradient, gradient_NH, rtol=1e-4, atol=2e-6)
    assert head_loss.loss_of(hidden_NH.detach(), head, labels_N, weights_N) == sums


def test_evaluate_measures_what_training_does_and_leaves_no_gradient(tuned: TunedModel) -> None:
    sequences = [Rendered((5, 6, 7, 8), (0.0, 0.0, 1.0, 1.0), 2), Rendered((9, 10), (0.0, 1.0), 1)]
    loss, gradients = with_gradients(tuned, lambda: evaluate.evaluate(tuned, sequences).loss)
    assert gradients == {}
    assert loss == pytest.approx(with_gradients(tuned, lambda: textbook(tuned, sequences))[0], rel=1e-5)


def test_exact_lifts_the_frozen_weights_and_puts_the_same_bytes_back(base: Path) -> None:
    tuned = tuned_model.frozen_model(tuned_model.load_base(base, torch.bfloat16))
    before = {name: tensor.clone() for name, tensor in tuned.causal.state_dict().items()}
    with probes.lifted_to_float32(tuned) as dtype:
        assert dtype == "float32"
        assert {tensor.dtype for tensor in tuned.causal.parameters()} == {torch.float32}
    for name, tensor in tuned.causal.state_dict().items():
        assert torch.equal(tensor, before[name])


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 99), st.integers(0, 9))
def test_order_visits_each_example_once_and_depends_on_seed_and_epoch_alone(
    n_examples: int, batch_size: int, seed: int, epoch: int
) -> None:
    batched = packing.epoch_batches(n_examples, batch_size, seed, epoch)
    assert sorted(index for batch in batched for index in batch) == list(range(n_examples))
    assert all(len(batch) == batch_size for batch in batched[:-1])
    assert batched == packing.epoch_batches(n_examples, batch_size, seed, epoch)


def test_order_differs_between_epochs_and_seeds() -> None:
    orders = [packing.epoch_batches(20, 4, seed, epoch) for seed in (1, 2) for epoch in (0, 1)]
    assert all(one != other for one, other in pairwise(orders))


@given(st.integers(1, 500))
def test_rate_rises_to_its_peak_and_falls_to_a_tenth(n_steps: int) -> None:
    spec = bare_spec(learning_rate=2.0)
    rates = [optimizer_setup.rate(step, n_steps, spec) for step in range(1, n_steps + 1)]
    peak = rates.index(max(rates))
    assert max(rates) == 2.0
    assert rates == sorted(rates[: peak + 1]) + sorted(rates[peak + 1 :], reverse=True)
    assert n_steps < 2 or rates[-1] == pytest.approx(0.2)
