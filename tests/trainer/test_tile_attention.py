"""Attention on AMX: near float32, equal bytes, and a way around it where it does not fit."""

import dataclasses
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny
from equality import compiled, randomise, with_gradients
from luthier.data.rendering.renderer import Rendered
from luthier.run_directory.train_spec import LoraRecipe
from luthier.trainer.cpu import amx_attention
from luthier.trainer.cpu.amx_attention import TileAttention
from luthier.trainer.cpu.grouped_attention import Attention
from luthier.trainer.cpu.kernels import Kernels
from luthier.trainer.cpu.workspace import Workspace
from luthier.trainer.dataset.packing import Segment, consecutive_segments
from luthier.trainer.layers.rotary import Angles
from luthier.trainer.model import tuned_model
from luthier.trainer.objectives import sft
from runs import TARGETS

needs_amx = pytest.mark.skipif(not compiled().tiles, reason="the processor, the compiler or the system knows no AMX")


def tree(*nodes: tuple[int, tuple[int, ...]]) -> tuple[Segment, ...]:
    """Segments end to end, of these lengths and contexts."""
    stops = accumulate(length for length, _ in nodes)
    return tuple(Segment(stop - length, length, context) for (length, context), stop in zip(nodes, stops, strict=True))


SHARED = tree((40, ()), (30, (0,)), (50, (0,)), (300, (0, 2)), (17, (0, 2)), (9, ()))
LONG_SHARED = tree((700, ()), (1, (0,)), (33, (0,)), (300, (0, 2)), (5, (0, 2)), (260, (0,)))
CASES = [
    *((consecutive_segments([length]), 2, 3, dim) for length in (1, 15, 16, 17, 300, 700) for dim in (32, 64, 128)),
    *((consecutive_segments([1, 15, 16, 17, 300, 33]), 3, repeats, 64) for repeats in (1, 3, 4)),
    (consecutive_segments([40, 5]), 1, 4, 256),
    (SHARED, 3, 1, 32),
    (SHARED, 3, 3, 64),
    (LONG_SHARED, 1, 4, 64),
    (LONG_SHARED, 2, 3, 128),
]


@dataclasses.dataclass(frozen=True)
class Problem:
    """A layer's attention: what goes in, and the gradient of what comes out."""

    segments: tuple[Segment, ...]
    groups: int
    repeats: int
    dim: int
    angles: Angles
    qkv_TO: Tensor
    gradient_TI: Tensor

    @property
    def scale(self) -> float:
        return float(self.dim**-0.5)

    def tiles(self) -> TileAttention:
        return TileAttention(compiled(), self.groups, self.repeats, self.dim, self.scale)

    def solved(self, attention: Attention | TileAttention) -> tuple[Tensor, ...]:
        """What the heads gather, and the gradients of queries, keys and values."""
        tokens, width = self.gradient_TI.shape
        attention.plan(self.segments)
        heads = attention.room(Workspace(), 0, tokens)
        heads.rows.copy_(self.qkv_TO)
        mixed_TX = torch.full((tokens, width + 16), 7.0, dtype=torch.bfloat16)
        attention.forward(heads, self.angles, mixed_TX)
        gradient_TY = torch.full((tokens, self.qkv_TO.shape[1] + 48), 7.0, dtype=torch.bfloat16)
        attention.backward(heads, self.angles, mixed_TX, self.gradient_TI, gradient_TY)
        assert bool((mixed_TX[:, width:] == 7).all())
        assert bool((gradient_TY[:, self.qkv_TO.shape[1] :] == 7).all())
        return mixed_TX[:, :width], *self.split(gradient_TY[:, : self.qkv_TO.shape[1]])

    def split(self, qkv_TO: Tensor) -> tuple[Tensor, ...]:
        keys = self.groups * self.dim
        parts: tuple[Tensor, ...] = qkv_TO.split([keys * self.repeats, keys, keys], dim=1)
        return parts

    def exact(self) -> tuple[Tensor, ...]:
        """The same by the textbook, in float64."""
        qkv_TO = self.qkv_TO.double().requires_grad_()
        tokens = len(qkv_TO)
        query, key, value = (part.reshape(tokens, -1, self.dim) for part in self.split(qkv_TO))
        query, key = self._rotated(query), self._rotated(key).repeat_interleave(self.repeats, 1)
        value = value.repeat_interleave(self.repeats, 1)
        outputs = []
        for segment in self.segments:
            places = [self._places(self.segments[number]) for number in segment.context]
            own, seen = self._places(segment), torch.cat([*places, self._places(segment)])
            scores = torch.einsum("qhd,khd->hqk", query[own], key[seen]) * self.scale
            later = torch.ones(len(own), len(seen)).triu(len(seen) - len(own) + 1).bool()
            probabilities = scores.masked_fill(later, -torch.inf).softmax(-1)
            outputs.append(torch.einsum("hqk,khd->qhd", probabilities, value[seen]).flatten(1))
        output = torch.cat(outputs)
        output.backward(self.gradient_TI.double())
        assert qkv_TO.grad is not None
        return output.detach(), *self.split(qkv_TO.grad)

    def _rotated(self, heads: Tensor) -> Tensor:
        low, high = heads.chunk(2, dim=-1)
        cosine, sine = self.angles.cosine_TD[:, None].double(), self.angles.sine_TD[:, None].double()
        return torch.cat([low * cosine - high * sine, high * cosine + low * sine], dim=-1)

    @staticmethod
    def _places(segment: Segment) -> Tensor:
        return torch.arange(segment.start, segment.start + segment.length)


def problem(segments: tuple[Segment, ...], groups: int, repeats: int, dim: int) -> Problem:
    generator = torch.Generator().manual_seed(0)
    tokens, width = sum(segment.length for segment in segments), groups * repeats * dim
    before = [sum(segments[number].length for number in segment.context) for segment in segments]
    ranges = [torch.arange(segment.length) + start for segment, start in zip(segments, before, strict=True)]
    angles = Angles(1e4 ** (-torch.arange(0, dim, 2) / dim), 1.0)
    angles.at(torch.cat(ranges))
    qkv_TO = 1.5 * torch.randn(tokens, width + 2 * groups * dim, generator=generator)
    gradient_TI = torch.randn(tokens, width, generator=generator)
    return Problem(segments, groups, repeats, dim, angles, qkv_TO.bfloat16(), gradient_TI.bfloat16())


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@needs_amx
@pytest.mark.parametrize(("segments", "groups", "repeats", "dim"), CASES)
def test_tiles_are_as_near_to_the_textbook_as_products_one_by_one(
    segments: tuple[Segment, ...], groups: int, repeats: int, dim: int
) -> None:
    posed = problem(segments, groups, repeats, dim)
    plain = posed.solved(Attention(compiled(), groups, repeats, dim, posed.scale, torch.bfloat16))
    for exact, other, tiled in zip(posed.exact(), plain, posed.solved(posed.tiles()), strict=True):
        error = float((tiled - exact).norm())
        # Mostly it is nearer. But the way back knows the output rounded, which shows where one key takes nearly all.
        assert error <= 1.2 * float((other - exact).norm()) + 1e-4
        assert error <= 0.01 * float(exact.norm()) + 1e-4


@needs_amx
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("segments", [consecutive_segments([220, 31, 64]), LONG_SHARED])
def test_tiles_give_equal_bytes_with_any_number_of_threads_and_again(segments: tuple[Segment, ...]) -> None:
    posed = problem(segments, 2, 3, 64)
    torch.set_num_threads(1)
    first = posed.solved(posed.tiles())
    for n_threads in (2, 3, 3, 7, 1):
        torch.set_num_threads(n_threads)
        assert all(torch.equal(one, two) for one, two in zip(first, posed.solved(posed.tiles()), strict=True))


@needs_amx
def test_tiles_and_other_matrix_products_leave_each_other_alone() -> None:
    posed = problem(SHARED, 3, 3, 64)
    wide, narrow = torch.randn(200, 300).bfloat16(), torch.randn(300, 70).bfloat16()
    product, solved = wide @ narrow, posed.solved(posed.tiles())
    for _ in range(3):
        assert torch.equal(wide @ narrow, product)
        assert all(torch.equal(one, two) for one, two in zip(solved, posed.solved(posed.tiles()), strict=True))


@needs_amx
def test_decoder_on_tiles_in_bf16_is_as_near_to_float32_as_the_modules_are(tmp_path: Path) -> None:
    tuned_model.configure_process(2, 0)
    base = tiny.base_folder(tmp_path / "wide", head_dim=64)
    recipe = LoraRecipe(rank=4, alpha=8, targets=TARGETS)
    generator = torch.Generator().manual_seed(0)
    beginning = torch.randint(400, (40,), generator=generator).tolist()
    rows = [beginning + torch.randint(400, (n,), generator=generator).tolist() for n in (20, 150, 330, 61)]
    sequences = [Rendered(tuple(row), (0.0,) + (1.0,) * (len(row) - 1), 1) for row in rows]

    def outcome(dtype: torch.dtype, kernels: Kernels | None) -> tuple[float, Tensor]:
        tuned = randomise(tuned_model.attach_adapter(tuned_model.load_base(base, dtype), recipe, 0, None, kernels))
        assert (tuned.fused is not None) == (kernels is not None)
        loss, gradients = with_gradients(tuned, lambda: sft.gradients(tuned, sequences, 10_000).loss)
        return loss, torch.cat([gradients[name].flatten() for name in sorted(gradients)])

    exact, plain = outcome(torch.float32, None), outcome(torch.bfloat16, None)
    fast = outcome(torch.bfloat16, compiled())
    assert float((fast[1] - exact[1]).norm()) <= 1.3 * float((plain[1] - exact[1]).norm())
    assert fast[0] == pytest.approx(exact[0], rel=5e-3)


@pytest.mark.parametrize(
    ("dim", "dtype"), [(16, torch.bfloat16), (80, torch.bfloat16), (288, torch.bfloat16), (64, torch.float32)]
)
def test_tiles_decline_heads_that_they_do_not_compute(dim: int, dtype: torch.dtype) -> None:
    assert not amx_attention.fits(compiled(), dim, dtype)
