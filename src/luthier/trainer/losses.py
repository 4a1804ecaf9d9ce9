"""The loss at supervised positions alone: logits are made there, chunk by chunk, and never kept.

The gradient with respect to the hidden states is computed while a chunk's logits are at hand, and that of the head
where it is tuned. Memory is one chunk whatever the vocabulary.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from luthier.trainer import device
from luthier.trainer.kernels import Kernels
from luthier.trainer.workspace import Workspace

_CHUNK_LOGITS = 2**25 if device.has_tiles() else 2**24
"""Logits per chunk, 64 MB in bf16: with AMX a product of some 600 rows with the head is twice as fast as one of 200."""

_CHUNK_LOGITS_GPU = 2**26
"""The same on a GPU: fewer rows would wait for the head to be read rather than for products."""

GPU_BYTES = _CHUNK_LOGITS_GPU * (2 + 4 + 2)
"""What a chunk takes there: logits in bf16, in float32, and their gradient."""

_spaces: dict[int, Workspace] = {}
"""By the rows of a whole chunk: its block is that large from the start, and so never taken a second time."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over supervised tokens: nats times weight, right guesses, and how many tokens there were.

    Tensors until `on_host`: each look at a number on a GPU waits for all that it has still to do.
    """

    nats: float | Tensor = 0.0
    correct: int | Tensor = 0
    tokens: int = 0
    each: tuple[float | Tensor, ...] = ()
    """Where it was asked for, the nats of each sequence; or, from an Objective, the mean loss of each example."""

    def on_host(self) -> "Sums":
        """The same in plain numbers."""
        each = torch.stack([torch.as_tensor(one) for one in self.each]).tolist() if self.each else ()
        return Sums(float(self.nats), int(self.correct), self.tokens, tuple(each))

    def __add__(self, other: "Sums") -> "Sums":
        each = self.each + other.each
        return Sums(self.nats + other.nats, self.correct + other.correct, self.tokens + other.tokens, each)

    @property
    def loss(self) -> float:
        return float(self.nats) / self.tokens

    @property
    def accuracy(self) -> float:
        return int(self.correct) / self.tokens

    @property
    def rewards(self) -> None:
        """What an answer is learned by has none."""

    @property
    def example_losses(self) -> tuple[float, ...] | None:
        return tuple(float(one) for one in self.each) or None


def release() -> None:
    """Gives back the memory of the last chunk's logits."""
    _spaces.clear()


def with_gradient(
    hidden_NH: Tensor,
    head_VH: Tensor,
    labels_N: Tensor,
    weights_N: Tensor,
    step_tokens: int,
    compiled: Kernels | None,
    head_gradient_VH: Tensor | None = None,
    counts: Sequence[int] = (),
) -> tuple[Tensor, Sums]:
    """The gradient of (weighted nats of these tokens) / `step_tokens` with respect to hidden_NH, and the sums.

    That with respect to the head is added to `head_gradient_VH`, where it is given. `counts`: of how many neighbouring
    tokens each the sums are wanted too.
    """
    gradient_NH = torch.empty_like(hidden_NH)
    wanted = weights_N / step_tokens, gradient_NH
    nats_N, correct_N = each(hidden_NH, head_VH, labels_N, compiled, wanted, head_gradient_VH)
    return gradient_NH, _summed(nats_N, correct_N, weights_N, counts)


def measure(hidden_NH: Tensor, head_VH: Tensor, labels_N: Tensor, weights_N: Tensor, compiled: Kernels | None) -> Sums:
    """The sums alone, for validation."""
    nats_N, correct_N = each(hidden_NH, head_VH, labels_N, compiled, None)
    return _summed(nats_N, correct_N, weights_N)


@torch.no_grad()
def each(
    hidden_NH: Tensor,
    head_VH: Tensor,
    labels_N: Tensor,
    compiled: Kernels | None,
    wanted: tuple[Tensor, Tensor] | None,
    head_gradient_VH: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Nats of each token and whether it was the likeliest, [N] both.

    With `wanted`, factors [N] and a place [N, H]: that gets the gradient of the sum of factor times nats as well, and
    the head's is added to `head_gradient_VH` where it is given.
    """
    size = max(1, (_CHUNK_LOGITS if head_VH.is_cpu else _CHUNK_LOGITS_GPU) // head_VH.shape[0])
    found = []
    for start in range(0, len(labels_N), size):
        chunk = slice(start, start + size)
        labels_C = labels_N[chunk]
        factors_C = wanted[0][chunk] if wanted else None
        logits_CV = _logits(hidden_NH[chunk], head_VH)
        entropy = _cross_entropy if compiled is None else functools.partial(_compiled, compiled)
        logits_CV, nats_C, correct_C = entropy(logits_CV, labels_C, factors_C)
        found.append((nats_C, correct_C))
        if wanted:
            wanted[1][chunk] = logits_CV @ head_VH
            if head_gradient_VH is not None:
                head_gradient_VH.add_(logits_CV.T @ hidden_NH[chunk])
    return torch.cat([nats_C for nats_C, _ in found]), torch.cat([correct_C for _, correct_C in found])


def _summed(nats_N: Tensor, correct_N: Tensor, weights_N: Tensor, counts: Sequence[int] = ()) -> Sums:
    weighted_N = nats_N.double() * weights_N
    each = tuple(weighted_N[stop - count : stop].sum() for count, stop in zip(counts, accumulate(counts), strict=True))
    return Sums(weighted_N.sum(), correct_N.sum(), len(nats_N), each)


def _logits(hidden_CH: Tensor, head_VH: Tensor) -> Tensor:
    if not head_VH.is_cpu:  # torch keeps a GPU's memory for the next chunk by itself
        return torch.mm(hidden_CH, head_VH.T)
    rows = _CHUNK_LOGITS // head_VH.shape[0]
    space = _spaces.setdefault(rows, Workspace(rows))
    logits_CV = space.take("logits", 0, (len(hidden_CH), head_VH.shape[0]), head_VH.dtype)
    return torch.mm(hidden_CH, head_VH.T, out=logits_CV)


def _compiled(
    compiled: Kernels, logits_CV: Tensor, labels_C: Tensor, factors_C: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    nats_C, correct_C = torch.empty(len(labels_C)), torch.empty(len(labels_C), dtype=torch.int64)
    compiled.call("cross_entropy", logits_CV.dtype, logits_CV, labels_C, factors_C, nats_C, correct_C, *logits_CV.shape)
    return logits_CV, nats_C, correct_C


def _cross_entropy(logits_CV: Tensor, labels_C: Tensor, factors_C: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """factors * (softmax - one-hot), where factors are given; nats; and 1 where the label was the likeliest."""
    float_CV = logits_CV.float()
    normaliser_C = float_CV.logsumexp(dim=1)
    target_C = float_CV.gather(1, labels_C[:, None])[:, 0]
    correct_C = float_CV.argmax(dim=1) == labels_C
    if factors_C is not None:
        float_CV = float_CV.sub_(normaliser_C[:, None]).exp_()
        float_CV.scatter_add_(1, labels_C[:, None], torch.full_like(target_C, -1.0)[:, None])
        logits_CV = float_CV.mul_(factors_C[:, None]).to(logits_CV.dtype)
    return logits_CV, normaliser_C - target_C, correct_C
