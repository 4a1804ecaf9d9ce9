"""The loss at supervised positions alone: logits are made there, chunk by chunk, and never kept.

The head is frozen, so the gradient with respect to the hidden states is computed in the forward pass, while a chunk's
logits are at hand; the backward pass only hands it on. Memory is one chunk whatever the vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_CHUNK_LOGITS = 2**23
"""Logits per chunk: 32 MB in float32."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over supervised tokens: nats times weight, right guesses, and how many tokens there were."""

    nats: float = 0.0
    correct: int = 0
    tokens: int = 0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.nats + other.nats, self.correct + other.correct, self.tokens + other.tokens)

    @property
    def loss(self) -> float:
        return self.nats / self.tokens

    @property
    def accuracy(self) -> float:
        return self.correct / self.tokens


def backward(hidden_NH: Tensor, head_VH: Tensor, labels_N: Tensor, weights_N: Tensor, step_tokens: int) -> Sums:
    """Adds the gradient of (weighted nats of these tokens) / `step_tokens` to whatever hidden_NH came from."""
    gradient_NH, sums = _chunked(hidden_NH.detach(), head_VH, labels_N, weights_N, step_tokens)
    hidden_NH.backward(gradient_NH)  # type: ignore[no-untyped-call]
    return sums


@torch.no_grad()
def measure(hidden_NH: Tensor, head_VH: Tensor, labels_N: Tensor, weights_N: Tensor) -> Sums:
    """The sums alone, for validation."""
    return _chunked(hidden_NH, head_VH, labels_N, weights_N, None)[1]


@torch.no_grad()
def _chunked(
    hidden_NH: Tensor, head_VH: Tensor, labels_N: Tensor, weights_N: Tensor, step_tokens: int | None
) -> tuple[Any, Sums]:
    """The sums and, if `step_tokens` is given, the gradient with respect to hidden_NH."""
    gradient_NH = torch.empty_like(hidden_NH) if step_tokens is not None else None
    size = max(1, _CHUNK_LOGITS // head_VH.shape[0])
    nats, correct = 0.0, 0
    for start in range(0, len(labels_N), size):
        chunk = slice(start, start + size)
        labels_C, weights_C = labels_N[chunk], weights_N[chunk]
        logits_CV = functional.linear(hidden_NH[chunk], head_VH).float()
        normaliser_C = logits_CV.logsumexp(dim=1)
        target_C = logits_CV.gather(1, labels_C[:, None])[:, 0]
        nats += float(((normaliser_C - target_C) * weights_C).sum())
        correct += int((logits_CV.argmax(dim=1) == labels_C).sum())
        if gradient_NH is not None and step_tokens is not None:
            # softmax minus one-hot, in the logits' own memory
            logits_CV.sub_(normaliser_C[:, None]).exp_()
            logits_CV.scatter_add_(1, labels_C[:, None], torch.full_like(target_C, -1.0)[:, None])
            logits_CV.mul_((weights_C / step_tokens)[:, None])
            gradient_NH[chunk] = logits_CV.to(head_VH.dtype) @ head_VH
    return gradient_NH, Sums(nats, correct, len(labels_N))
