"""Attention of the fused decoder: causal within each segment, after the segments in its context.

A batch entry of every product is a key head with all the queries that share it (grouped-query attention), a block of
queries at a time against the keys that they may see. Probabilities are computed again in the backward pass: keeping
them would cost more memory than all other activations. With AMX `amx_attention` stands in its place.

Axes: G key heads, Q queries of all heads that share one, K keys, D head size; T tokens, X and O columns of a row.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luthier.trainer.cpu.kernels import Kernels
from luthier.trainer.cpu.workspace import Workspace
from luthier.trainer.dataset.packing import Segment
from luthier.trainer.layers.rotary import Angles

QUERY_BLOCK = 256


@dataclass(frozen=True, slots=True)
class Heads:
    """Rotated queries and keys, and values, each in one block a segment (layout: kernels.cpp, pack_heads).

    `rows` [T, columns] is what they are made of, not rotated; all layers share that buffer.
    """

    rows: Tensor
    query: Tensor
    key: Tensor
    value: Tensor


class Attention:
    """Attention for one model's shape. Call `plan` once a batch, then `forward` and `backward` for each layer."""

    def __init__(self, kernels: Kernels, groups: int, repeats: int, dim: int, scale: float, dtype: torch.dtype) -> None:
        """`groups` are key heads, `repeats` the query heads that share one, `dim` their size, `scale` the scores'."""
        self._kernels, self._dtype, self._scale = kernels, dtype, scale
        self._groups, self._repeats, self._dim = groups, repeats, dim
        self._space = Workspace()
        self._segments: Sequence[Segment] = ()
        self._starts_T = self._lengths_T = torch.empty(0)

    def plan(self, segments: Sequence[Segment]) -> None:
        """Takes the segments of the batch: each token's segment start and length are tensors for the kernels."""
        lengths = torch.tensor([segment.length for segment in segments])
        self._segments = segments
        self._starts_T = torch.tensor([segment.start for segment in segments]).repeat_interleave(lengths)
        self._lengths_T = lengths.repeat_interleave(lengths)

    def room(self, space: Workspace, layer: int, tokens: int) -> Heads:
        """Buffers for what a layer keeps; the caller fills `rows` with queries, keys and values before `forward`."""
        keys = self._groups * self._dim
        queries = keys * self._repeats
        rows = space.take("heads", 0, (tokens, queries + 2 * keys), self._dtype)
        sizes = {"query": queries, "key": keys, "value": keys}
        return Heads(rows, **{name: space.take(name, layer, (tokens, sizes[name]), self._dtype) for name in sizes})

    def forward(self, heads: Heads, angles: Angles, mixed_TX: Tensor) -> None:
        """Writes the attention output of all heads to the first columns of `mixed_TX`; fills the blocks of `heads`."""
        qkv_TO = heads.rows
        self._kernels.call(
            "pack_heads", self._dtype, qkv_TO, qkv_TO.stride(0), angles.cosine_TD, angles.sine_TD, self._starts_T,
            self._lengths_T, heads.query, heads.key, heads.value, len(qkv_TO), self._groups, self._repeats, self._dim,
        )  # fmt: skip
        output = self._space.take("output", 0, tuple(heads.query.shape), self._dtype)
        for segment in self._segments:
            query_GQD = self._queries(heads.query, segment)
            output_GQD = self._queries(output, segment)
            key_GKD, value_GKD = self._seen(heads.key, segment), self._seen(heads.value, segment)
            for rows, n_keys, first, n_queries in self._blocks(segment):
                probabilities_GQK = self._probabilities(query_GQD[:, rows], key_GKD[:, :n_keys], first, n_queries)
                output_GQD[:, rows] = torch.bmm(probabilities_GQK, value_GKD[:, :n_keys])
        self._move(output, mixed_TX, to_rows=True)

    def backward(
        self, heads: Heads, angles: Angles, mixed_TX: Tensor, gradient_TX: Tensor, qkv_gradient_TO: Tensor
    ) -> None:
        """Overwrites `qkv_gradient_TO`, given the gradient of the output that `forward` wrote.

        Gradients of keys and values are summed in float32: those of shared prefixes come from several segments.
        """
        gradient = self._space.take("output", 0, tuple(heads.query.shape), self._dtype)
        self._move(gradient, gradient_TX, to_rows=False)
        query_gradient = self._space.take("query", 0, tuple(heads.query.shape), self._dtype)
        key_gradient = self._space.take("key", 0, tuple(heads.key.shape), torch.float32).zero_()
        value_gradient = self._space.take("value", 0, tuple(heads.value.shape), torch.float32).zero_()
        for segment in self._segments:
            query_GQD = self._queries(heads.query, segment)
            gradient_GQD = self._queries(gradient, segment)
            query_gradient_GQD = self._queries(query_gradient, segment)
            key_GKD, value_GKD = self._seen(heads.key, segment), self._seen(heads.value, segment)
            for rows, n_keys, first, n_queries in self._blocks(segment):
                queries, given, keys = query_GQD[:, rows], gradient_GQD[:, rows], key_GKD[:, :n_keys]
                probabilities = self._probabilities(queries, keys, first, n_queries)
                values_part = torch.bmm(probabilities.transpose(1, 2), given)
                scores = self._scratch("gradients", probabilities.shape)
                torch.bmm(given, value_GKD[:, :n_keys].transpose(1, 2), out=scores)
                self._kernels.call(
                    "causal_softmax_backward", self._dtype, probabilities, scores,
                    probabilities.shape[0] * probabilities.shape[1], n_keys, first, n_queries, self._repeats,
                    self._scale,
                )  # fmt: skip
                query_gradient_GQD[:, rows] = torch.bmm(scores, keys)
                self._add(key_gradient, torch.bmm(scores.transpose(1, 2), queries), segment)
                self._add(value_gradient, values_part, segment)
        self._kernels.call(
            "unpack_gradients", self._dtype, query_gradient, key_gradient, value_gradient, angles.cosine_TD,
            angles.sine_TD, self._starts_T, self._lengths_T, qkv_gradient_TO, qkv_gradient_TO.stride(0),
            len(qkv_gradient_TO), self._groups, self._repeats, self._dim,
        )  # fmt: skip

    def _probabilities(self, query_GQD: Tensor, key_GKD: Tensor, first: int, n_queries: int) -> Tensor:
        """Causal softmax [G, Q, K] of a block of queries, in a buffer that the next call overwrites.

        `first` is how many keys stand before the first query, `n_queries` how many tokens the block has.
        """
        scores_GQK = self._scratch("probabilities", (*query_GQD.shape[:2], key_GKD.shape[1]))
        torch.bmm(query_GQD, key_GKD.transpose(1, 2), out=scores_GQK)
        self._kernels.call(
            "causal_softmax", self._dtype, scores_GQK, scores_GQK.shape[0] * scores_GQK.shape[1], scores_GQK.shape[2],
            first, n_queries, self._repeats, self._scale,
        )  # fmt: skip
        return scores_GQK

    def _blocks(self, segment: Segment) -> Iterator[tuple[slice, int, int, int]]:
        """For each block of queries: its rows, how many keys it may see, how many precede its first query, its size."""
        before = sum(self._segments[number].length for number in segment.context)
        for start in range(0, segment.length, QUERY_BLOCK):
            stop = min(start + QUERY_BLOCK, segment.length)
            rows = slice(start * self._repeats, stop * self._repeats)
            yield rows, before + stop, before + start, stop - start

    def _queries(self, packed: Tensor, segment: Segment) -> Tensor:
        """A view of the segment's block of packed queries, [G, Q, D]."""
        size = self._groups * self._repeats * self._dim
        block = packed.view(-1)[segment.start * size : (segment.start + segment.length) * size]
        return block.view(self._groups, segment.length * self._repeats, self._dim)

    def _keys(self, packed: Tensor, segment: Segment) -> Tensor:
        """A view of the segment's own block of packed keys or values, [G, length, D]."""
        size = self._groups * self._dim
        block = packed.view(-1)[segment.start * size : (segment.start + segment.length) * size]
        return block.view(self._groups, segment.length, self._dim)

    def _seen(self, packed: Tensor, segment: Segment) -> Tensor:
        """The keys or values that a segment's queries may see, its context's first; a copy if it has a context."""
        own = self._keys(packed, segment)
        if not segment.context:
            return own
        return torch.cat([*(self._keys(packed, self._segments[number]) for number in segment.context), own], dim=1)

    def _add(self, packed: Tensor, part_GKD: Tensor, segment: Segment) -> None:
        """Adds gradients of keys or values, in place, to those of the segments that they belong to."""
        place = 0
        for owner in (*(self._segments[number] for number in segment.context), segment):
            part = part_GKD[:, place : place + owner.length]
            self._keys(packed, owner)[:, : part.shape[1]].add_(part)
            place += owner.length

    def _move(self, packed: Tensor, rows_TX: Tensor, to_rows: bool) -> None:
        """Copies between packed blocks and rows of a batch: into `rows_TX` if `to_rows`, else out of it."""
        self._kernels.call(
            "move_heads", self._dtype, packed, rows_TX, rows_TX.stride(0), self._starts_T, self._lengths_T,
            len(rows_TX), self._groups, self._repeats, self._dim, int(to_rows),
        )  # fmt: skip

    def _scratch(self, name: str, shape: Sequence[int]) -> Tensor:
        """A scratch buffer; the next call with the same name overwrites it."""
        return self._space.take(name, 0, tuple(shape), self._dtype)
