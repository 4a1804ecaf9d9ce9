"""Which examples make a step, and how they lie in memory: end to end in one row, without padding."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from luthier.data.render import Rendered

TOKEN_BUDGET = 2048
"""Tokens per forward pass in training: matrix products are at full speed from some hundreds on; more costs with it."""

EVALUATION_BUDGET = 4096
"""Tokens per forward pass without gradients, where only one layer's activations are alive."""


MIN_SHARED = 16
"""A beginning that sequences share is computed once if it has at least so many tokens; below that it does not pay."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring tokens of a row: each attends to those before it here, and to all of the segments in `context`."""

    start: int
    length: int
    context: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Flat:
    """Sequences end to end, shared beginnings once. Position `sources_N[i]` predicts the token `labels_N[i]`."""

    token_ids_T: Tensor
    positions_T: Tensor
    segments: tuple[Segment, ...]
    sources_N: Tensor
    labels_N: Tensor
    weights_N: Tensor


def order(n_examples: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of an epoch as indexes of examples: a pure function, so that a resumed run meets the same ones."""
    indexes = list(range(n_examples))
    random.Random(f"luthier {seed} {epoch}").shuffle(indexes)
    return [indexes[start : start + batch_size] for start in range(0, n_examples, batch_size)]


def split(sequences: Sequence[Rendered], budget: int) -> Iterator[list[Rendered]]:
    """Cuts a batch into groups of at most `budget` tokens to compute; a longer sequence stands alone.

    A batch that fits stays in order. Otherwise neighbours of the alphabet go together: they share most.
    """
    for group in groups([(sequence,) for sequence in sequences], budget):
        yield [sequences[index] for index in group]


def groups(examples: Sequence[tuple[Rendered, ...]], budget: int) -> Iterator[list[int]]:
    """The same as indexes, for examples whose sequences have to go through the model together."""
    if sum(len(sequence.token_ids) for sequences in examples for sequence in sequences) <= budget:
        yield list(range(len(examples)))
        return
    group: list[int] = []
    n_tokens = 0
    for index in sorted(range(len(examples)), key=lambda index: [one.token_ids for one in examples[index]]):
        n_new = _computed(examples[index], examples[group[-1]][-1] if group else None)
        if group and n_tokens + n_new > budget:
            yield group
            group, n_tokens, n_new = [], 0, _computed(examples[index], None)
        group.append(index)
        n_tokens += n_new
    yield group


def _computed(sequences: Sequence[Rendered], before: Rendered | None) -> int:
    """How many tokens these add to a row that `before` ends."""
    n_tokens = 0
    for sequence in sequences:
        shared = _common(before.token_ids, sequence.token_ids) if before else 0
        n_tokens += len(sequence.token_ids) - (shared if shared >= MIN_SHARED else 0)
        before = sequence
    return n_tokens


def supervised_tokens(sequences: Sequence[Rendered]) -> int:
    """How many tokens of these sequences the model learns to write."""
    return sum(1 for sequence in sequences for weight in sequence.loss_weights[1:] if weight)


def lined_up(lengths: Sequence[int]) -> tuple[Segment, ...]:
    """Segments of these lengths, end to end, that share nothing."""
    return tuple(Segment(stop - length, length) for length, stop in zip(lengths, accumulate(lengths), strict=True))


def flatten(sequences: Sequence[Rendered], share: bool = True) -> Flat:
    """Lays sequences end to end; positions restart with each. With `share`, a common beginning lies there once."""
    row = _Row([], [], [])
    places: list[list[int]] = [[] for _ in sequences]
    _lay(row, sequences, list(range(len(sequences))), 0, (), places, share)
    sources: list[int] = []
    labels: list[int] = []
    weights: list[float] = []
    for sequence, place in zip(sequences, places, strict=True):
        for at, weight in enumerate(sequence.loss_weights[1:], start=1):
            if weight:
                sources.append(place[at - 1])
                labels.append(sequence.token_ids[at])
                weights.append(weight)
    return Flat(
        torch.tensor(row.token_ids),
        torch.tensor(row.positions),
        tuple(row.segments),
        torch.tensor(sources),
        torch.tensor(labels),
        torch.tensor(weights, dtype=torch.float32),
    )


def rounded(flat: Flat, multiple: int) -> Flat:
    """The same with a last segment that nobody reads, so that the row's length is a multiple of so many tokens."""
    n_tokens = len(flat.token_ids_T)
    missing = -n_tokens % multiple
    if not missing:
        return flat
    return replace(
        flat,
        token_ids_T=torch.cat([flat.token_ids_T, torch.zeros(missing, dtype=flat.token_ids_T.dtype)]),
        positions_T=torch.cat([flat.positions_T, torch.arange(missing)]),
        segments=(*flat.segments, Segment(n_tokens, missing)),
    )


@dataclass(frozen=True, slots=True)
class _Row:
    token_ids: list[int]
    positions: list[int]
    segments: list[Segment]

    def add(self, token_ids: Sequence[int], position: int, context: tuple[int, ...]) -> range:
        """Appends a segment whose first token has this position; returns where its tokens lie."""
        start = len(self.token_ids)
        self.token_ids.extend(token_ids)
        self.positions.extend(range(position, position + len(token_ids)))
        self.segments.append(Segment(start, len(token_ids), context))
        return range(start, len(self.token_ids))


def _lay(
    row: _Row,
    sequences: Sequence[Rendered],
    chosen: list[int],
    done: int,
    context: tuple[int, ...],
    places: list[list[int]],
    share: bool,
) -> None:
    """Lays what comes after the first `done` tokens of the chosen sequences, which are equal so far."""
    first = sequences[chosen[0]].token_ids
    common = min(_common(first, sequences[number].token_ids) for number in chosen)
    if len(chosen) == 1 or not share:
        for number in chosen:
            if rest := sequences[number].token_ids[done:]:
                places[number] += row.add(rest, done, context)
        return
    if common - done >= MIN_SHARED:
        lies = row.add(first[done:common], done, context)
        for number in chosen:
            places[number] += lies
        done, context = common, (*context, len(row.segments) - 1)
    branches: dict[int | None, list[int]] = {}
    for number in chosen:
        token_ids = sequences[number].token_ids
        branches.setdefault(token_ids[common] if common < len(token_ids) else None, []).append(number)
    # Sequences that end here are equal from `done` on; those of a branch go on together for a token at least.
    ended = branches.pop(None, [])
    for number in ended:
        _lay(row, sequences, [number], done, context, places, share)
    for branch in branches.values():
        _lay(row, sequences, branch, done, context, places, share)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens two sequences share at their beginning."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))
