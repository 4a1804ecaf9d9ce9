"""Layers compiled and layers computed again: the same numbers, the latter to the byte."""

import functools
import logging
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from equality import assert_same, with_sft_gradients
from flash import BEGINNING, as_on_a_gpu, fresh, row
from luthier.data.rendering.renderer import Rendered
from luthier.run_directory.train_spec import LoraRecipe
from luthier.trainer.dataset import packing
from luthier.trainer.model import layer_wrappers
from luthier.trainer.objectives import evaluate
from runs import TARGETS

plain = functools.cache(fresh)


@pytest.mark.filterwarnings("ignore")  # what torch's tracer does warns of itself
def test_layers_are_compiled_once_for_all_of_them_and_for_every_batch(
    base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="torch.__trace")
    torch.compiler.reset()
    count = CompileCounterWithBackend("eager")
    recipe = LoraRecipe(rank=4, alpha=8, targets=("down_proj",))  # tracing an adapter takes seconds
    tuned = as_on_a_gpu(base, recipe)
    layer_wrappers.wrap(tuned.backbone, True, True, False, backend=count)

    def compare(group: list[Rendered]) -> None:
        one, other = (with_sft_gradients(model, group, 10_000) for model in (plain(base, recipe), tuned))
        assert_same(one, other)

    compare([row(*range(1, 9)), row(*range(30, 41))])
    compare([row(*BEGINNING, 1, 2), row(*BEGINNING, *range(60, 65))])
    compiled = count.frame_count
    assert compiled > 0
    for length in (3, 20, 50):
        compare([row(*range(length)), row(*range(70, 73 + length)), row(8, 9)])
        compare([row(*BEGINNING, 1, 2), row(*BEGINNING, *range(60, 60 + length))])
        evaluate.evaluate(tuned, [row(*range(length)), row(*BEGINNING)])
    assert count.frame_count == compiled


def test_recomputed_layers_give_the_same_bytes(base: Path) -> None:
    sequences = [row(*BEGINNING, 1, 2), row(*BEGINNING, 3, 4, 5), row(9, 10, 30)]
    again = fresh(base)
    layer_wrappers.wrap(again.backbone, True, False, False)
    found = [with_sft_gradients(tuned, sequences, 10_000) for tuned in (plain(base), again)]
    assert found[0][0] == found[1][0]
    assert all(torch.equal(gradient, found[1][1][name]) for name, gradient in found[0][1].items())
    assert evaluate.evaluate(plain(base), sequences) == evaluate.evaluate(again, sequences)


def _counted(sizes: list[int], tensor: Tensor) -> Tensor:
    sizes.append(tensor.nbytes)
    return tensor


def test_recomputed_layers_keep_their_inputs_alone(base: Path) -> None:
    packed = packing.pack_sequences([row(*range(100))])
    kept = []
    for recompute in (False, True):
        tuned = fresh(base)
        layer_wrappers.wrap(tuned.backbone, recompute, False, False)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(partial(_counted, sizes), lambda t: t):
            tuned.hidden(packed)
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 4


def test_dropout_of_recomputed_layers_is_drawn_as_it_was(base: Path) -> None:
    recipe = LoraRecipe(rank=4, alpha=8, dropout=0.5, targets=TARGETS)
    found = []
    for recompute in (False, True):
        tuned = fresh(base, recipe)
        layer_wrappers.wrap(tuned.backbone, recompute, False, True)
        torch.manual_seed(5)
        found.append(with_sft_gradients(tuned, [row(*range(50))], 100))
    assert_same(found[0], found[1])


@pytest.mark.filterwarnings("ignore")
def test_layers_that_cannot_be_compiled_run_as_they_are(base: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="torch.__trace")
    torch.compiler.reset()
    asked = []

    def refuse(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> None:
        asked.append(graph)
        raise RuntimeError("no compiler")

    recipe = LoraRecipe(rank=4, alpha=8, targets=("down_proj",))
    tuned = as_on_a_gpu(base, recipe)
    layer_wrappers.wrap(tuned.backbone, False, True, False, backend=refuse)
    found = [
        with_sft_gradients(model, [row(*range(9)), row(*range(20, 50))], 100) for model in (plain(base, recipe), tuned)
    ]
    assert asked
    assert_same(found[0], found[1])


def test_compilation_is_for_long_runs_on_a_gpu_alone() -> None:
    assert not layer_wrappers.compilation_pays(torch.device("cpu"), 10**9, 10**9)
    assert not layer_wrappers.compilation_pays(torch.device("cuda"), 10**8, 10**5)
