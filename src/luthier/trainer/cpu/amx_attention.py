"""Attention of the fused decoder on processors with AMX: one call of attention_amx.cpp a layer each way.

Where those kernels cannot be had, or do not know a model's heads, `grouped_attention` does the same. Axes: T tokens of
the row, D half of the head size, X and O columns of a wider buffer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from luthier.trainer.cpu.kernels import Kernels
from luthier.trainer.cpu.workspace import Workspace
from luthier.trainer.dataset.packing import Segment
from luthier.trainer.layers.rotary import Angles

# As in amx_tasks.h.
_SIDE = 32
_TASK_ROWS = 128
_MOST_DIM = 256


def fits(kernels: Kernels, dim: int, dtype: torch.dtype) -> bool:
    """Whether these kernels can run here and compute attention with heads of this size in this dtype."""
    return kernels.tiles and dtype == torch.bfloat16 and dim % _SIDE == 0 and dim <= _MOST_DIM


@dataclass(frozen=True, slots=True)
class Rows:
    """What a layer keeps for its backward pass: queries, keys and values side by side, not rotated, [T, columns].

    Rotating them again is cheaper than storing the result. `log_sums` [T, heads], float32, are the logarithms of what
    each softmax was divided by: its probabilities are computed again from them.
    """

    rows: Tensor
    log_sums: Tensor


class TileAttention:
    """Attention for one model's shape. Call `plan` once a batch, then `forward` and `backward` for each layer."""

    def __init__(self, kernels: Kernels, groups: int, repeats: int, dim: int, scale: float) -> None:
        """`groups` are key heads, `repeats` the query heads that share one, `dim` their size, `scale` the scores'."""
        self._kernels, self._scale = kernels, scale
        self._groups, self._repeats, self._dim = groups, repeats, dim
        self._space = Workspace()
        self._tables: list[Tensor] = []
        self._plan = torch.empty(0)
        self._n_strips = 0

    def plan(self, segments: Sequence[Segment]) -> None:
        """Makes the tables of a batch that attention_amx.cpp works by: segments, pieces, tasks, strips (amx_tasks.h).

        It keeps them, for the plan holds their addresses.
        """
        rows: list[tuple[int, ...]] = []
        pieces: list[tuple[int, int]] = []
        tasks: list[tuple[int, int]] = []
        owners: list[int] = []
        turns = [0] * len(segments)
        for number, segment in enumerate(segments):
            seen = (*segment.context, number)
            rows.append((segment.start, segment.length, len(owners), len(pieces), len(seen)))
            pieces += [(piece, turns[piece]) for piece in seen]
            n_tasks = -(-segment.length * self._repeats // _TASK_ROWS)
            tasks += [(number, task) for task in range(n_tasks)]
            for piece in seen:
                turns[piece] += n_tasks
            owners += [number] * -(-segment.length // _SIDE)
        self._tables = [torch.tensor(table) for table in (rows, pieces, tasks, owners)]
        self._n_strips = len(owners)
        counts = (len(tasks), len(owners), self._groups, self._repeats, self._dim)
        self._plan = torch.tensor([*(table.data_ptr() for table in self._tables), *counts])

    def room(self, space: Workspace, layer: int, tokens: int) -> Rows:
        """Buffers for what a layer keeps; the caller fills `rows` with queries, keys and values before `forward`."""
        heads = self._groups * self._repeats
        width = (heads + 2 * self._groups) * self._dim
        return Rows(
            space.take("heads", layer, (tokens, width), torch.bfloat16),
            space.take("log sums", layer, (tokens, heads), torch.float32),
        )

    def forward(self, heads: Rows, angles: Angles, mixed_TX: Tensor) -> None:
        """Writes the attention output of all heads to the first columns of `mixed_TX`, and `heads.log_sums`."""
        strips = self._strips("strips", 2, torch.bfloat16)
        self._kernels.call(
            "attention_forward", torch.bfloat16, self._plan, heads.rows, heads.rows.stride(0), angles.cosine_TD,
            angles.sine_TD, strips, mixed_TX, mixed_TX.stride(0), heads.log_sums, self._scale,
        )  # fmt: skip

    def backward(
        self, heads: Rows, angles: Angles, mixed_TX: Tensor, gradient_TX: Tensor, qkv_gradient_TO: Tensor
    ) -> None:
        """Overwrites `qkv_gradient_TO`, given the gradient of `mixed_TX`, which is as `forward` left it."""
        strips, sums = self._strips("strips", 3, torch.bfloat16), self._strips("sums", 2, torch.float32)
        turns = self._space.take("turns", 0, (self._groups * self._n_strips,), torch.int32)
        self._kernels.call(
            "attention_backward", torch.bfloat16, self._plan, heads.rows, heads.rows.stride(0), angles.cosine_TD,
            angles.sine_TD, mixed_TX, mixed_TX.stride(0), gradient_TX, gradient_TX.stride(0), heads.log_sums, strips,
            sums, turns, qkv_gradient_TO, qkv_gradient_TO.stride(0), self._scale,
        )  # fmt: skip

    def _strips(self, name: str, kinds: int, dtype: torch.dtype) -> Tensor:
        """Scratch for the keys of all heads, each segment padded to a multiple of 32; `kinds` copies side by side."""
        return self._space.take(name, 0, (self._n_strips * _SIDE, kinds * self._groups * self._dim), dtype)
