"""Cross-entropy at the supervised positions only: logits are computed there, chunk by chunk, and never kept.

The gradient with respect to the hidden states is computed while a chunk's logits are in memory, and that of the head if
it is trained. Peak memory is one chunk, whatever the vocabulary.

Axes: N supervised positions, C those of a chunk, H hidden size, V vocabulary. Losses (NLL) are in nats.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import torch
from torch import Tensor

from luthier.trainer.cpu.kernels import Kernels
from luthier.trainer.cpu.workspace import Workspace
from luthier.trainer.model import devices
from luthier.trainer.ranks.rank_group import RankGroup

_CHUNK_LOGITS = 2**25 if devices.has_amx() else 2**24
"""Logits per chunk, 64 MB in bf16: with AMX a product of some 600 rows with the head is twice as fast as one of 200."""

_CHUNK_LOGITS_GPU = 2**26
"""The same on a GPU: with fewer rows reading the head takes longer than the product."""

GPU_BYTES = _CHUNK_LOGITS_GPU * (2 + 4 + 2)
"""Memory of a chunk there: logits in bf16, in float32, and their gradient."""


@dataclass(frozen=True, slots=True)
class Head:
    """The language-model head as the loss computes with it: its weight, and a buffer for a chunk's logits on a CPU.

    `compiled` are the C++ kernels, None where torch computes the loss. The buffer has the size of a whole chunk from
    the start, so it is never allocated a second time.
    """

    weight_VH: Tensor = field(repr=False)
    compiled: Kernels | None = field(repr=False)
    workspace: Workspace = field(repr=False)

    def release(self) -> None:
        """Frees the buffer; the next chunk allocates it again."""
        self.workspace.clear()


def head_of(weight_VH: Tensor, compiled: Kernels | None) -> Head:
    """A head with a buffer of its own; without `compiled` kernels torch computes the loss."""
    return Head(weight_VH, compiled, Workspace(_CHUNK_LOGITS // weight_VH.shape[0]))


@dataclass(frozen=True, slots=True)
class LossSums:
    """Sums over supervised tokens: nats times weight, correct predictions, and how many tokens there were.

    Tensors until `on_host`: reading a number from a GPU waits for all of its pending work.
    """

    nats: float | Tensor = 0.0
    correct: int | Tensor = 0
    tokens: int = 0
    sequence_nats: tuple[float | Tensor, ...] = ()
    """The nats of each sequence, if asked for."""
    mean_losses: tuple[float | Tensor, ...] = ()
    """From an Objective: the mean loss of each example of the batch."""

    def on_host(self) -> "LossSums":
        """The same in plain numbers; waits for the device."""
        sequence_nats, mean_losses = _numbers(self.sequence_nats), _numbers(self.mean_losses)
        return LossSums(float(self.nats), int(self.correct), self.tokens, sequence_nats, mean_losses)

    def over_ranks(self, ranks: RankGroup) -> "LossSums":
        """The sums over all ranks, of sums on the host; `mean_losses` are zero where another rank has the example."""
        if ranks.size == 1:
            return self
        own = [float(value) for value in (self.nats, self.correct, self.tokens, *self.mean_losses)]
        nats, correct, tokens, *means = ranks.sums(own)
        return LossSums(nats, int(correct), int(tokens), (), tuple(means))

    def __add__(self, other: "LossSums") -> "LossSums":
        """Sums over both; those of sequences and examples are of `self` first."""
        return LossSums(
            self.nats + other.nats,
            self.correct + other.correct,
            self.tokens + other.tokens,
            self.sequence_nats + other.sequence_nats,
            self.mean_losses + other.mean_losses,
        )

    @property
    def loss(self) -> float:
        """The mean weighted loss in nats per supervised token."""
        return float(self.nats) / self.tokens

    @property
    def accuracy(self) -> float:
        """Share of the supervised tokens that were the most likely ones."""
        return int(self.correct) / self.tokens

    @property
    def example_losses(self) -> tuple[float, ...] | None:
        """The mean loss of each example of the batch, in nats per supervised token; None if not measured."""
        return tuple(float(loss) for loss in self.mean_losses) or None

    @property
    def rewards(self) -> None:
        """None: supervised examples have no rewards."""


def loss_with_gradient(
    hidden_NH: Tensor,
    head: Head,
    labels_N: Tensor,
    weights_N: Tensor,
    step_tokens: int,
    head_gradient_VH: Tensor | None = None,
    counts: Sequence[int] = (),
) -> tuple[Tensor, LossSums]:
    """The gradient [N, H] of (weighted nats of these tokens) / `step_tokens` by hidden_NH; and the sums.

    The head's gradient is added to `head_gradient_VH`, if given. `counts` are the numbers of supervised tokens of the
    sequences, in order, if the nats of each are wanted too.
    """
    gradient_NH = torch.empty_like(hidden_NH)
    nats_N, correct_N = token_nats(hidden_NH, head, labels_N, (weights_N / step_tokens, gradient_NH), head_gradient_VH)
    return gradient_NH, _loss_sums(nats_N, correct_N, weights_N, counts)


def loss_of(hidden_NH: Tensor, head: Head, labels_N: Tensor, weights_N: Tensor) -> LossSums:
    """The sums of loss and accuracy without any gradient, for validation."""
    nats_N, correct_N = token_nats(hidden_NH, head, labels_N)
    return _loss_sums(nats_N, correct_N, weights_N)


@torch.no_grad()
def token_nats(
    hidden_NH: Tensor,
    head: Head,
    labels_N: Tensor,
    factors_and_gradient: tuple[Tensor, Tensor] | None = None,
    head_gradient_VH: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The NLL of each token in nats, and whether it was the most likely one; [N] both.

    With factors [N] and a tensor [N, H], the gradient of the sum of factor times nats is written to that tensor, and
    the head's is added to `head_gradient_VH`, if given.
    """
    head_VH = head.weight_VH
    size = max(1, (_CHUNK_LOGITS if head_VH.is_cpu else _CHUNK_LOGITS_GPU) // head_VH.shape[0])
    cross_entropy = (
        _cross_entropy if head.compiled is None else functools.partial(_compiled_cross_entropy, head.compiled)
    )
    nats, correct = [], []
    for start in range(0, len(labels_N), size):
        chunk = slice(start, start + size)
        factors_C = factors_and_gradient[0][chunk] if factors_and_gradient else None
        logits_CV = _logits(hidden_NH[chunk], head)
        logits_CV, nats_C, correct_C = cross_entropy(logits_CV, labels_N[chunk], factors_C)
        nats.append(nats_C)
        correct.append(correct_C)
        if factors_and_gradient:
            factors_and_gradient[1][chunk] = logits_CV @ head_VH
            if head_gradient_VH is not None:
                head_gradient_VH.add_(logits_CV.T @ hidden_NH[chunk])
    return torch.cat(nats), torch.cat(correct)


def _numbers(values: Sequence[float | Tensor]) -> tuple[float, ...]:
    """The values as plain numbers, in one transfer from the device."""
    return tuple(torch.stack([torch.as_tensor(value) for value in values]).tolist()) if values else ()


def _loss_sums(nats_N: Tensor, correct_N: Tensor, weights_N: Tensor, counts: Sequence[int] = ()) -> LossSums:
    """Weighted sums in float64 over the tokens; and of each sequence, where `counts` says how many are its own."""
    weighted_N = nats_N.double() * weights_N
    per_sequence = tuple(
        weighted_N[stop - count : stop].sum() for count, stop in zip(counts, accumulate(counts), strict=True)
    )
    return LossSums(weighted_N.sum(), correct_N.sum(), len(nats_N), per_sequence)


def _logits(hidden_CH: Tensor, head: Head) -> Tensor:
    """The logits [C, V] of a chunk; on a CPU they lie in the head's buffer, until the next chunk."""
    head_VH = head.weight_VH
    if not head_VH.is_cpu:  # torch caches a GPU's memory for the next chunk by itself
        return torch.mm(hidden_CH, head_VH.T)
    logits_CV = head.workspace.take("logits", 0, (len(hidden_CH), head_VH.shape[0]), head_VH.dtype)
    return torch.mm(hidden_CH, head_VH.T, out=logits_CV)


def _compiled_cross_entropy(
    compiled: Kernels, logits_CV: Tensor, labels_C: Tensor, factors_C: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """What `_cross_entropy` computes, by one C++ kernel; with factors it writes the gradient over the logits."""
    nats_C, correct_C = torch.empty(len(labels_C)), torch.empty(len(labels_C), dtype=torch.int64)
    compiled.call("cross_entropy", logits_CV.dtype, logits_CV, labels_C, factors_C, nats_C, correct_C, *logits_CV.shape)
    return logits_CV, nats_C, correct_C


def _cross_entropy(logits_CV: Tensor, labels_C: Tensor, factors_C: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """With factors, factor * (softmax - one-hot), else the logits as they were, [C, V]; nats and correctness, [C].

    `labels_C` are token ids; a token is correct if it was the most likely one.
    """
    float_CV = logits_CV.float()
    normaliser_C = float_CV.logsumexp(dim=1)
    target_C = float_CV.gather(1, labels_C[:, None])[:, 0]
    correct_C = float_CV.argmax(dim=1) == labels_C
    if factors_C is not None:
        float_CV = float_CV.sub_(normaliser_C[:, None]).exp_()
        float_CV.scatter_add_(1, labels_C[:, None], torch.full_like(target_C, -1.0)[:, None])
        logits_CV = float_CV.mul_(factors_C[:, None]).to(logits_CV.dtype)
    return logits_CV, normaliser_C - target_C, correct_C
