"""Which examples make a step, and how they lie in memory: end to end in one row, without padding."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luthier.data.render import Rendered

TOKEN_BUDGET = 2048
"""Tokens per forward pass in training: matrix products are at full speed from some hundreds on; more costs with it."""

EVALUATION_BUDGET = 4096
"""Tokens per forward pass without gradients, where only one layer's activations are alive."""


@dataclass(frozen=True, slots=True)
class Flat:
    """Sequences end to end. Position `sources_N[i]` predicts the token `labels_N[i]`, weighted `weights_N[i]`."""

    token_ids_T: Tensor
    positions_T: Tensor
    segments: tuple[int, ...]
    sources_N: Tensor
    labels_N: Tensor
    weights_N: Tensor


def order(n_examples: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of an epoch as indexes of examples: a pure function, so that a resumed run meets the same ones."""
    indexes = list(range(n_examples))
    random.Random(f"luthier {seed} {epoch}").shuffle(indexes)
    return [indexes[start : start + batch_size] for start in range(0, n_examples, batch_size)]


def split(sequences: Sequence[Rendered], budget: int) -> Iterator[list[Rendered]]:
    """Cuts a batch into groups of at most `budget` tokens, in order; a longer sequence stands alone."""
    group: list[Rendered] = []
    n_tokens = 0
    for sequence in sequences:
        if group and n_tokens + len(sequence.token_ids) > budget:
            yield group
            group, n_tokens = [], 0
        group.append(sequence)
        n_tokens += len(sequence.token_ids)
    if group:
        yield group


def supervised_tokens(sequences: Sequence[Rendered]) -> int:
    """How many tokens of these sequences the model learns to write."""
    return sum(1 for sequence in sequences for weight in sequence.loss_weights[1:] if weight)


def flatten(sequences: Sequence[Rendered]) -> Flat:
    """Lays sequences end to end; positions restart with each."""
    token_ids: list[int] = []
    positions: list[int] = []
    sources: list[int] = []
    labels: list[int] = []
    weights: list[float] = []
    for sequence in sequences:
        start = len(token_ids)
        token_ids += sequence.token_ids
        positions += range(len(sequence.token_ids))
        for place in range(1, len(sequence.token_ids)):
            if sequence.loss_weights[place]:
                sources.append(start + place - 1)
                labels.append(sequence.token_ids[place])
                weights.append(sequence.loss_weights[place])
    return Flat(
        torch.tensor(token_ids),
        torch.tensor(positions),
        tuple(len(sequence.token_ids) for sequence in sequences),
        torch.tensor(sources),
        torch.tensor(labels),
        torch.tensor(weights, dtype=torch.float32),
    )
