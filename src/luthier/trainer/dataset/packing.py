"""Batches and micro-batches of a run, and their packing: sequences end to end in one row, without padding.

Axes: T tokens of the row, N supervised tokens.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from luthier.data.rendering.renderer import Rendered

EVALUATION_BUDGET = 4096
"""Tokens per forward pass without gradients, when only one layer's activations are alive."""


MIN_SHARED = 16
"""A prefix that sequences share is computed once from this many tokens on; a shorter one does not pay."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Contiguous tokens of a row: each attends causally within the segment, and to all of the segments in `context`.

    `context` has the numbers of those segments in the row.
    """

    start: int
    length: int
    context: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Sequences packed into one row, shared prefixes once. Position `sources_N[i]` predicts the token `labels_N[i]`.

    `positions_T` are those within a sequence, for the rotary embedding; `weights_N` the labels' weights in the loss.
    """

    token_ids_T: Tensor
    positions_T: Tensor
    segments: tuple[Segment, ...]
    sources_N: Tensor
    labels_N: Tensor
    weights_N: Tensor


def epoch_batches(n_examples: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of an epoch (counted from 0) as indexes of examples, shuffled; the last one may be smaller.

    A pure function of its arguments, so that a resumed run has the same ones.
    """
    indexes = list(range(n_examples))
    random.Random(f"luthier {seed} {epoch}").shuffle(indexes)
    return [indexes[start : start + batch_size] for start in range(0, n_examples, batch_size)]


def split_into_micro_batches(sequences: Sequence[Rendered], budget: int) -> Iterator[list[Rendered]]:
    """Splits a batch into micro-batches of at most `budget` computed tokens; a longer sequence has one of its own.

    A batch that fits stays in order. Otherwise sequences are sorted, so that those that share most are together.
    """
    for group in micro_batches([(sequence,) for sequence in sequences], budget):
        yield [sequences[index] for index in group]


def micro_batches(examples: Sequence[tuple[Rendered, ...]], budget: int) -> Iterator[list[int]]:
    """Yields micro-batches of at most `budget` computed tokens, as indexes of examples, whose sequences stay together.

    A larger example has one of its own. If all fit they stay in order, else they are sorted by their tokens. Without
    examples there is none.
    """
    if not examples:
        return
    if sum(len(sequence.token_ids) for sequences in examples for sequence in sequences) <= budget:
        yield list(range(len(examples)))
        return
    group: list[int] = []
    n_tokens = 0
    for index in sorted(range(len(examples)), key=lambda index: [one.token_ids for one in examples[index]]):
        n_new = _n_new_tokens(examples[index], examples[group[-1]][-1] if group else None)
        if group and n_tokens + n_new > budget:
            yield group
            group, n_tokens, n_new = [], 0, _n_new_tokens(examples[index], None)
        group.append(index)
        n_tokens += n_new
    yield group


def split_over_ranks(examples: Sequence[tuple[Rendered, ...]], n_ranks: int) -> list[list[int]]:
    """The share of each rank in a batch, as ascending indexes of `examples`; with one rank it has all.

    Whole examples, the longest first, each to the rank with the fewest computed tokens so far (of equals the lowest). A
    pure function: every rank knows every share. With fewer examples than ranks some shares are empty.
    """
    costs = [_n_new_tokens(sequences, None) for sequences in examples]
    shares: list[list[int]] = [[] for _ in range(n_ranks)]
    tokens = [0] * n_ranks
    for index in sorted(range(len(examples)), key=lambda index: -costs[index]):
        rank = tokens.index(min(tokens))
        shares[rank].append(index)
        tokens[rank] += costs[index]
    return [sorted(share) for share in shares]


def _n_new_tokens(sequences: Sequence[Rendered], before: Rendered | None) -> int:
    """How many tokens these sequences add to a row that ends with `before` (None: an empty row), prefixes shared."""
    n_tokens = 0
    for sequence in sequences:
        shared = _common_length(before.token_ids, sequence.token_ids) if before else 0
        n_tokens += len(sequence.token_ids) - (shared if shared >= MIN_SHARED else 0)
        before = sequence
    return n_tokens


def supervised_tokens(sequences: Sequence[Rendered]) -> int:
    """How many tokens of these sequences are supervised, that is have a loss weight; a first token has no loss."""
    return sum(1 for sequence in sequences for weight in sequence.loss_weights[1:] if weight)


def consecutive_segments(lengths: Sequence[int]) -> tuple[Segment, ...]:
    """Segments of these lengths, end to end, without shared prefixes."""
    return tuple(Segment(stop - length, length) for length, stop in zip(lengths, accumulate(lengths), strict=True))


def pack_sequences(sequences: Sequence[Rendered], share: bool = True) -> PackedBatch:
    """Packs sequences into one row, on the CPU; positions restart with each sequence.

    With `share`, a prefix that sequences have in common is in the row once.
    """
    row = _Row([], [], [])
    positions_of: list[list[int]] = [[] for _ in sequences]
    _pack_branch(row, sequences, list(range(len(sequences))), 0, (), positions_of, share)
    sources: list[int] = []
    labels: list[int] = []
    weights: list[float] = []
    for sequence, row_positions in zip(sequences, positions_of, strict=True):
        for index, weight in enumerate(sequence.loss_weights[1:], start=1):
            if weight:
                sources.append(row_positions[index - 1])
                labels.append(sequence.token_ids[index])
                weights.append(weight)
    return PackedBatch(
        torch.tensor(row.token_ids),
        torch.tensor(row.positions),
        tuple(row.segments),
        torch.tensor(sources),
        torch.tensor(labels),
        torch.tensor(weights, dtype=torch.float32),
    )


def pad_to_multiple(packed: PackedBatch, multiple: int) -> PackedBatch:
    """The batch with a padding segment at its end, so that the row's length is a multiple of `multiple` tokens."""
    n_tokens = len(packed.token_ids_T)
    missing = -n_tokens % multiple
    if not missing:
        return packed
    return replace(
        packed,
        token_ids_T=torch.cat([packed.token_ids_T, torch.zeros(missing, dtype=packed.token_ids_T.dtype)]),
        positions_T=torch.cat([packed.positions_T, torch.arange(missing)]),
        segments=(*packed.segments, Segment(n_tokens, missing)),
    )


@dataclass(frozen=True, slots=True)
class _Row:
    """The row under construction."""

    token_ids: list[int]
    positions: list[int]
    segments: list[Segment]

    def append_segment(self, token_ids: Sequence[int], position: int, context: tuple[int, ...]) -> range:
        """Appends a segment whose first token has this position; returns the indexes of its tokens in the row."""
        start = len(self.token_ids)
        self.token_ids.extend(token_ids)
        self.positions.extend(range(position, position + len(token_ids)))
        self.segments.append(Segment(start, len(token_ids), context))
        return range(start, len(self.token_ids))


def _pack_branch(
    row: _Row,
    sequences: Sequence[Rendered],
    chosen: list[int],
    done: int,
    context: tuple[int, ...],
    positions_of: list[list[int]],
    share: bool,
) -> None:
    """Appends to `row` what follows the first `done` tokens of the chosen sequences, which are equal so far.

    `context` are the segments of those tokens; `positions_of` collects where in the row each sequence's tokens lie.
    """
    first = sequences[chosen[0]].token_ids
    common = min(_common_length(first, sequences[number].token_ids) for number in chosen)
    if len(chosen) == 1 or not share:
        for number in chosen:
            if rest := sequences[number].token_ids[done:]:
                positions_of[number] += row.append_segment(rest, done, context)
        return
    if common - done >= MIN_SHARED:
        shared = row.append_segment(first[done:common], done, context)
        for number in chosen:
            positions_of[number] += shared
        done, context = common, (*context, len(row.segments) - 1)
    branches: dict[int | None, list[int]] = {}
    for number in chosen:
        token_ids = sequences[number].token_ids
        branches.setdefault(token_ids[common] if common < len(token_ids) else None, []).append(number)
    # Sequences that end here are equal from `done` on; those of a branch share at least one more token.
    ended = branches.pop(None, [])
    for number in ended:
        _pack_branch(row, sequences, [number], done, context, positions_of, share)
    for branch in branches.values():
        _pack_branch(row, sequences, branch, done, context, positions_of, share)


def _common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the longest common prefix of two sequences."""
    for index, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return index
    return min(len(one), len(other))
