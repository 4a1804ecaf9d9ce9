"""The fused decoder and shared beginnings: faster ways to the same numbers."""

import functools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from equality import SEQUENCES, assert_same, compiled, randomise, with_gradients, with_sft_gradients
from luthier.data.rendering.renderer import Rendered
from luthier.run_directory.train_spec import LoraRecipe
from luthier.trainer.dataset import packing
from luthier.trainer.model import head_loss, tuned_model
from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.objectives import sft
from runs import TARGETS

RECIPE = LoraRecipe(rank=4, alpha=8, targets=TARGETS)


@functools.cache
def variant(base: Path, dtype: torch.dtype, fused: bool, recipe: LoraRecipe = RECIPE) -> TunedModel:
    tuned_model.configure_process(2, 0)
    tuned = tuned_model.attach_adapter(
        tuned_model.load_base(base, dtype), recipe, 0, None, compiled() if fused else None
    )
    assert (tuned.fused is not None) == fused
    return randomise(tuned)


@pytest.mark.parametrize("fused", [True, False])
@settings(deadline=None, max_examples=25)
@given(sequences=SEQUENCES)
def test_shared_beginnings_computed_once_change_nothing(base: Path, fused: bool, sequences: list[Rendered]) -> None:
    tuned = variant(base, torch.float32, fused)
    shared, apart = packing.pack_sequences(sequences), packing.pack_sequences(sequences, share=False)
    assert len(shared.token_ids_T) <= len(apart.token_ids_T) == sum(len(item.token_ids) for item in sequences)

    def loss(packed: packing.PackedBatch) -> float:
        hidden_NH, count = tuned.hidden(packed), len(packed.labels_N)
        gradient_NH, sums = head_loss.loss_with_gradient(
            hidden_NH, tuned.head, packed.labels_N, packed.weights_N, count
        )
        tuned.backward(hidden_NH, gradient_NH)
        return sums.loss

    assert_same(with_gradients(tuned, lambda: loss(shared)), with_gradients(tuned, lambda: loss(apart)))


def test_flatten_lays_a_tree_of_shared_beginnings() -> None:
    system, one, other = list(range(100, 120)), list(range(200, 220)), [5, 6]
    rows = [system + one + [1, 2], system + one + [3], system + other, system + one, [9, 8, 7]]
    packed = packing.pack_sequences([Rendered(tuple(row), (0.0,) * (len(row) - 1) + (1.0,), 1) for row in rows])
    assert len(packed.token_ids_T) == len(system) + len(one) + 2 + 1 + len(other) + 3
    tokens = packed.token_ids_T.tolist()
    for source, label, row in zip(packed.sources_N.tolist(), packed.labels_N.tolist(), rows, strict=True):
        assert label == row[-1]
        assert packed.positions_T[source] == len(row) - 2
        # What its segment goes on from, and then the segment up to the source, spells the row.
        own = next(one for one in packed.segments if one.start <= source < one.start + one.length)
        seen = [packed.segments[number] for number in own.context]
        before = [token for one in seen for token in tokens[one.start : one.start + one.length]]
        assert [*before, *tokens[own.start : source + 1]] == row[:-1]


def test_split_puts_rows_that_share_most_together_and_keeps_to_the_budget() -> None:
    system = list(range(100, 130))
    rows = [Rendered((*system, n % 3, n), (0.0,) * 31 + (1.0,), 31) for n in range(9)]
    groups = list(packing.split_into_micro_batches(rows, 50))
    assert sorted(row.token_ids for group in groups for row in group) == sorted(row.token_ids for row in rows)
    assert all(len(packing.pack_sequences(group).token_ids_T) <= 50 for group in groups)
    assert len(groups) == 1


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(20, 320), min_size=1, max_size=4), st.integers(0, 60), st.integers(0, 9))
def test_fused_decoder_in_bf16_is_as_near_to_float32_as_the_modules_are(
    base: Path, lengths: list[int], shared: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    beginning = torch.randint(400, (shared,), generator=generator).tolist()
    rows = [beginning + torch.randint(400, (length,), generator=generator).tolist() for length in lengths]
    sequences = [Rendered(tuple(row), (0.0,) + (1.0,) * (len(row) - 1), 1) for row in rows]

    def outcome(dtype: torch.dtype, fused: bool) -> tuple[float, torch.Tensor]:
        tuned = variant(base, dtype, fused)
        loss, gradients = with_gradients(tuned, lambda: sft.gradients(tuned, sequences, 10_000).loss)
        return loss, torch.cat([gradients[name].flatten() for name in sorted(gradients)])

    exact, plain, fast = outcome(torch.float32, False), outcome(torch.bfloat16, False), outcome(torch.bfloat16, True)
    assert float((fast[1] - exact[1]).norm()) <= 1.3 * float((plain[1] - exact[1]).norm())
    assert fast[0] == pytest.approx(exact[0], rel=5e-3)


@settings(deadline=None, max_examples=10)
@given(SEQUENCES)
def test_fused_decoder_gives_the_same_bytes_whatever_ran_before(base: Path, sequences: list[Rendered]) -> None:
    tuned = variant(base, torch.bfloat16, True)
    first = with_gradients(tuned, lambda: sft.gradients(tuned, sequences, 10_000).loss)
    sft.gradients(tuned, [Rendered(tuple(range(300)), (0.0,) + (1.0,) * 299, 1)], 10_000)
    again = with_gradients(tuned, lambda: sft.gradients(tuned, sequences, 10_000).loss)
    assert first[0] == again[0]
    assert all(torch.equal(gradient, again[1][name]) for name, gradient in first[1].items())


def test_fused_decoder_with_fewer_targets_trains_those_alone(base: Path) -> None:
    sequences = [Rendered((5, 6, 7, 8), (0.0, 0.0, 1.0, 1.0), 2), Rendered((9, 10, 30), (0.0, 1.0, 1.0), 1)]
    recipe = LoraRecipe(rank=4, alpha=8, targets=("q_proj", "v_proj", "up_proj"))
    found = []
    for fused in (True, False):
        tuned = variant(base, torch.float32, fused, recipe)
        found.append(with_sft_gradients(tuned, sequences, 100))
    assert len(found[0][1]) == 3 * 2 * 2
    assert_same(found[0], found[1])


def test_kernels_give_equal_bytes_with_any_number_of_threads() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, factors = torch.randn(37, 5000, generator=generator).bfloat16(), torch.rand(37, generator=generator)
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        copy, nats, correct = logits.clone(), torch.empty(37), torch.empty(37, dtype=torch.int64)
        compiled().call("cross_entropy", torch.bfloat16, copy, torch.arange(37), factors, nats, correct, 37, 5000)
        found.append((copy, nats, correct))
    for other in found[1:]:
        assert all(torch.equal(one, two) for one, two in zip(found[0], other, strict=True))
