"""Cosines and sines of the rotary embedding, from a table that is the same in every process.

torch leaves these functions to a vendor's library whose last bit was seen to differ from one process to the next;
numpy's, in float64 and rounded once, did not, and they are nearer to what engines compute.

Axes: P positions, T tokens of a batch, D half of the head size.
"""

import types
from typing import Any

import numpy as np
import torch
from torch import Tensor

FIXED = frozenset({"default", "linear", "llama3"})
"""rope_type of the embeddings whose frequencies do not change with the length of a row."""


class Angles:
    """A growing table of cosines and sines, float32 [P, D]; `at` looks up the rows of a batch."""

    def __init__(self, inv_freq: Tensor, scaling: float) -> None:
        """`inv_freq` [D] are the frequencies, `scaling` a factor on cosines and sines."""
        self._frequencies = inv_freq.double().numpy()
        self._scaling = scaling
        self._cosine_PD = self._sine_PD = torch.empty(0, len(inv_freq))
        self.cosine_TD = self.sine_TD = self._cosine_PD

    def at(self, positions_T: Tensor) -> None:
        """Sets `cosine_TD` and `sine_TD` to those of these positions; makes the table longer if need be."""
        needed = int(positions_T.max()) + 1
        if needed > len(self._cosine_PD):
            # The model's own arithmetic: positions and frequencies are multiplied in float32.
            angles = np.outer(np.arange(needed, dtype=np.float32), self._frequencies.astype(np.float32))
            self._cosine_PD = torch.from_numpy((np.cos(angles.astype(np.float64)) * self._scaling).astype(np.float32))
            self._sine_PD = torch.from_numpy((np.sin(angles.astype(np.float64)) * self._scaling).astype(np.float32))
        self.cosine_TD, self.sine_TD = self._cosine_PD[positions_T], self._sine_PD[positions_T]


def use_angle_table(rotary: Any) -> None:
    """Has a transformers rotary module of fixed frequencies look its angles up: replaces its forward, on a CPU alone.

    Any other kind stays as it is. Where layers differ in their frequencies (Gemma 3) each kind of layer has a table.
    """
    rope_type = getattr(rotary, "rope_type", None)
    by_layer = rope_type if isinstance(rope_type, dict) else {None: rope_type}
    if not FIXED.issuperset(by_layer.values()):
        return
    angles = {}
    for layer_type in by_layer:
        prefix = "" if layer_type is None else f"{layer_type}_"
        inv_freq = getattr(rotary, f"{prefix}inv_freq")
        if inv_freq.is_cuda:
            return
        angles[layer_type] = Angles(inv_freq, float(getattr(rotary, f"{prefix}attention_scaling")))

    def forward(self: Any, x: Tensor, position_ids: Tensor, layer_type: str | None = None) -> tuple[Tensor, Tensor]:
        """Cosines and sines [batch, tokens, head size] of these positions, in the dtype of `x`."""
        table = angles[layer_type]
        table.at(position_ids.flatten())
        shape = (*position_ids.shape, -1)
        pair = [torch.cat((half, half), dim=-1).view(shape) for half in (table.cosine_TD, table.sine_TD)]
        return pair[0].to(x.dtype), pair[1].to(x.dtype)

    rotary.forward = types.MethodType(forward, rotary)
