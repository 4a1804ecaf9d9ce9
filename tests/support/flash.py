"""What torch's flash attention computes, in plain products on a CPU: it stands in for the GPU kernel under varlen_attn.

As in the kernel: int32 starts, the causal mask aligned to the last key, a key head for several query heads. With it the
tiny model can be given the attention that a GPU gets.
"""

import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equality import randomise
from luthier.data.rendering.renderer import Rendered
from luthier.run_directory.train_spec import LoraRecipe
from luthier.trainer.model import tuned_model
from luthier.trainer.model.tuned_model import TunedModel
from runs import TARGETS

RECIPE = LoraRecipe(rank=4, alpha=8, targets=TARGETS)
BEGINNING = tuple(range(7, 47))
_LIBRARY = torch.library.Library("aten", "IMPL")


def row(*token_ids: int) -> Rendered:
    """A sequence of which all is learned."""
    return Rendered(token_ids, (0.0,) + (1.0,) * (len(token_ids) - 1), 1)


def fresh(base: Path, recipe: LoraRecipe = RECIPE) -> TunedModel:
    """The tiny model's modules in float32, with a random adapter; the same each time."""
    tuned_model.configure_process(1, 0)
    return randomise(tuned_model.attach_adapter(tuned_model.load_base(base, torch.float32), recipe, 0, None))


def as_on_a_gpu(base: Path, recipe: LoraRecipe = RECIPE) -> TunedModel:
    """The same with the attention that a GPU gets."""
    install()
    return dataclasses.replace(fresh(base, recipe), varlen=True)


def install() -> None:
    """Registers both directions for CPU tensors of this process; where torch is built for CUDA its own stay there."""
    if not torch._C._dispatch_has_kernel_for_dispatch_key("aten::_flash_attention_forward", "CPU"):
        _LIBRARY.impl("_flash_attention_forward", _forward, "CPU")
        _LIBRARY.impl("_flash_attention_backward", _backward, "CPU")


def _forward(
    query: Tensor, key: Tensor, value: Tensor, starts_q: Tensor, starts_k: Tensor, max_q: int, max_k: int,
    dropout: float, causal: bool, debug: bool, *, scale: float, window_size_left: int | None = None, **others: Any
) -> tuple[Tensor, ...]:  # fmt: skip
    assert causal or others["window_size_right"] == 0
    assert dropout == 0.0
    outputs, sums = [], []
    for queries, keys in _parts(starts_q, starts_k, max_q, max_k):
        scores, values = _scores(query[queries], key[keys], scale, window_size_left), _repeat(value[keys], query)
        outputs.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), values))
        sums.append(scores.logsumexp(-1))
    empty = torch.empty(0)
    return torch.cat(outputs), torch.cat(sums, dim=1), empty, empty, empty


def _backward(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor, starts_q: Tensor,
    starts_k: Tensor, max_q: int, max_k: int, dropout: float, causal: bool, rng: Tensor, unused: Tensor, *,
    scale: float, window_size_left: int | None = None, **others: Any
) -> tuple[Tensor, ...]:  # fmt: skip
    query_gradient, key_gradient, value_gradient = map(torch.zeros_like, (query, key, value))
    for queries, keys in _parts(starts_q, starts_k, max_q, max_k):
        probabilities = (_scores(query[queries], key[keys], scale, window_size_left) - lse[:, queries, None]).exp()
        given = gradient[queries]
        value_gradient[keys] += _sum_groups(torch.einsum("hqk,qhd->khd", probabilities, given), key)
        probability_gradient = torch.einsum("qhd,khd->hqk", given, _repeat(value[keys], query))
        inner = torch.einsum("qhd,qhd->hq", given, out[queries])
        score_gradient = probabilities * (probability_gradient - inner[:, :, None]) * scale
        query_gradient[queries] += torch.einsum("hqk,khd->qhd", score_gradient, _repeat(key[keys], query))
        key_gradient[keys] += _sum_groups(torch.einsum("hqk,qhd->khd", score_gradient, query[queries]), key)
    return query_gradient, key_gradient, value_gradient


def _parts(starts_q: Tensor, starts_k: Tensor, max_q: int, max_k: int) -> Iterator[tuple[slice, slice]]:
    assert starts_q.dtype == starts_k.dtype == torch.int32
    for (q0, q1), (k0, k1) in zip(pairwise(starts_q.tolist()), pairwise(starts_k.tolist()), strict=True):
        assert q1 - q0 <= max_q
        assert k1 - k0 <= max_k
        yield slice(q0, q1), slice(k0, k1)


def _scores(query: Tensor, key: Tensor, scale: float, before: int | None) -> Tensor:
    assert query.stride(-1) == key.stride(-1) == 1
    scores = torch.einsum("qhd,khd->hqk", query, _repeat(key, query)) * scale
    later = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1 + len(key) - len(query))
    if before is not None and before >= 0:
        later |= torch.ones_like(later).tril(len(key) - len(query) - before - 1)
    return scores.masked_fill(later, float("-inf"))


def _repeat(states: Tensor, query: Tensor) -> Tensor:
    return states.repeat_interleave(query.shape[1] // states.shape[1], dim=1)


def _sum_groups(gradient: Tensor, key: Tensor) -> Tensor:
    return gradient.reshape(len(gradient), key.shape[1], -1, gradient.shape[-1]).sum(2)
