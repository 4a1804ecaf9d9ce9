"""Layers compiled and layers computed again: the same numbers, the latter to the byte."""

import functools
import logging
from pathlib import Path

import pytest
import torch
from equality import assert_same, with_gradients
from flash import BEGINNING, as_on_a_gpu, fresh, row
from runs import TARGETS
from torch._dynamo.testing import CompileCounterWithBackend

from luthier.data.render import Rendered
from luthier.run_directory import LoraRecipe
from luthier.trainer import batches, evaluate, layers, supervised

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
    layers.wrap(tuned.backbone, True, True, False, backend=count)

    def compare(group: list[Rendered]) -> None:
        one, other = (
            with_gradients(model, lambda model=model: supervised.gradients(model, group, 10_000).loss)
            for model in (plain(base, recipe), tuned)
        )
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
    layers.wrap(again.backbone, True, False, False)
    found = [
        with_gradients(tuned, lambda tuned=tuned: supervised.gradients(tuned, sequences, 10_000).loss)
        for tuned in (plain(base), again)
    ]
    assert found[0][0] == found[1][0]
    assert all(torch.equal(gradient, found[1][1][name]) for name, gradient in found[0][1].items())
    assert evaluate.evaluate(plain(base), sequences) == evaluate.evaluate(again, sequences)


def test_recomputed_layers_keep_their_inputs_alone(base: Path) -> None:
    flat = batches.flatten([row(*range(100))])
    kept = []
    for recompute in (False, True):
        tuned = fresh(base)
        layers.wrap(tuned.backbone, recompute, False, False)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.nbytes) or t, lambda t: t):
            tuned.hidden(flat)
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 4


def test_dropout_of_recomputed_layers_is_drawn_as_it_was(base: Path) -> None:
    recipe = LoraRecipe(rank=4, alpha=8, dropout=0.5, targets=TARGETS)
    found = []
    for recompute in (False, True):
        tuned = fresh(base, recipe)
        layers.wrap(tuned.backbone, recompute, False, True)
        torch.manual_seed(5)
        found.append(
            with_gradients(tuned, lambda tuned=tuned: supervised.gradients(tuned, [row(*range(50))], 100).loss)
        )
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
    layers.wrap(tuned.backbone, False, True, False, backend=refuse)
    found = [
        with_gradients(
            model, lambda model=model: supervised.gradients(model, [row(*range(9)), row(*range(20, 50))], 100).loss
        )
        for model in (plain(base, recipe), tuned)
    ]
    assert asked
    assert_same(found[0], found[1])


def test_compilation_is_for_long_runs_on_a_gpu_alone() -> None:
    assert not layers.compilation_pays(torch.device("cpu"), 10**9, 10**9)
    assert not layers.compilation_pays(torch.device("cuda"), 10**8, 10**5)
