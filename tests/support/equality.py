"""What it takes to say that two ways of computing a step are the same."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from luthier.data.rendering.renderer import Rendered
from luthier.trainer.cpu import kernels
from luthier.trainer.cpu.kernels import Kernels
from luthier.trainer.model.tuned_model import TunedModel
from luthier.trainer.objectives import sft

BEGINNING = list(range(7, 47))

Outcome = tuple[float, dict[str, Tensor]]


def compiled() -> Kernels:
    """The kernels. The project's machines have a compiler; without one half of these tests would say nothing."""
    found = kernels.load()
    assert found is not None, "no C++ compiler: install g++ to test the fused path"
    return found


@st.composite
def sequence(draw: Any) -> Rendered:
    """A short sequence; often it begins with some of the same 40 tokens as others do."""
    shared = BEGINNING[: draw(st.sampled_from([0, 0, 3, 16, 25, 40]))]
    token_ids = shared + draw(st.lists(st.integers(0, 399), min_size=2, max_size=12))
    learned = draw(st.lists(st.booleans(), min_size=len(token_ids) - 2, max_size=len(token_ids) - 2))
    return Rendered(tuple(token_ids), (0.0, *map(float, learned), 1.0), 1)


SEQUENCES = st.lists(sequence(), min_size=1, max_size=5)


def randomise(tuned: TunedModel) -> TunedModel:
    """Gives both halves of the adapter random values, so that every gradient is alive."""
    generator = torch.Generator().manual_seed(1)
    for _, parameter in sorted(tuned.parameters.items()):
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return tuned


def with_gradients(tuned: TunedModel, compute: Callable[[], float]) -> Outcome:
    for parameter in tuned.parameters.values():
        parameter.grad = None
    loss = compute()
    gradients = {name: parameter.grad for name, parameter in tuned.parameters.items()}
    return loss, {name: gradient.clone() for name, gradient in gradients.items() if gradient is not None}


def with_sft_gradients(tuned: TunedModel, sequences: list[Rendered], max_tokens: int) -> Outcome:
    return with_gradients(tuned, lambda: sft.gradients(tuned, sequences, max_tokens).loss)


def assert_same(one: Outcome, other: Outcome) -> None:
    assert one[0] == pytest.approx(other[0], rel=1e-5, abs=1e-6)
    assert one[1].keys() == other[1].keys()
    for name, gradient in one[1].items():
        torch.testing.assert_close(gradient, other[1][name], rtol=1e-3, atol=1e-5)
