"""Linear layers of the fused decoder: a group that reads one input is one product with its LoRA adapters.

Axes: T tokens, I inputs, O outputs of all layers, R ranks of all adapters; X = I + R columns, Y = O + R.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor


class LinearGroup:
    """Linear layers that read the same input, as one product with their adapters.

    With W the layers' weights one above the other, A and B those of the adapters (each in its own rows or columns) and
    s their scales, `matrix` is [[W, s B], [A, 0]]. An input row [x, A x] times its upper part is W x + s B A x; a
    gradient row [g, s B' g] times its left part is the gradient of x. The layers' own weights become views of it.
    """

    def __init__(self, modules: Sequence[Any]) -> None:
        """Copies the weights of plain or LoRA layers into the matrix, and makes the layers' weights views of it.

        `rank` is the sum of the adapters' ranks, 0 without adapters. Call `refresh` before the first product.
        """
        bases = [getattr(module, "base_layer", module) for module in modules]
        self.n_in = bases[0].in_features
        self.n_out = sum(base.out_features for base in bases)
        self._parts: list[_Adapter] = []
        low = 0
        outputs = [slice(stop - base.out_features, stop) for base, stop in zip(bases, _ends(bases), strict=True)]
        for module, base, rows in zip(modules, bases, outputs, strict=True):
            if base is not module:
                (name,) = module.lora_A
                down, up = module.lora_A[name].weight, module.lora_B[name].weight
                self._parts.append(_Adapter(rows, slice(low, low + len(down)), down, up, module.scaling[name]))
                low += len(down)
        self.rank = low
        weight = bases[0].weight
        self._matrix = torch.zeros(self.n_out + low, self.n_in + low, dtype=weight.dtype)
        self._weight_OI, self._up_OR = self._matrix[: self.n_out, : self.n_in], self._matrix[: self.n_out, self.n_in :]
        self._down_RI = self._matrix[self.n_out :, : self.n_in]
        for base, rows in zip(bases, outputs, strict=True):
            self._weight_OI[rows] = base.weight
            base.weight.data = self._weight_OI[rows]
        self._bias_O = None if bases[0].bias is None else torch.cat([base.bias for base in bases]).detach()

    def refresh(self) -> None:
        """Copies the adapters' present float32 values into the matrix; due after each optimizer step."""
        for part in self._parts:
            self._down_RI[part.low] = part.down_RI
            self._up_OR[part.rows, part.low] = part.up_OR * part.scale

    def forward(self, input_TX: Tensor, output_TO: Tensor) -> None:
        """Writes the outputs to `output_TO`; `input_TX` holds the inputs in front, and A x is written behind them."""
        self.low(input_TX)
        torch.mm(input_TX, self._matrix[: self.n_out].T, out=output_TO)
        if self._bias_O is not None:
            output_TO.add_(self._bias_O)

    def low(self, input_TX: Tensor) -> None:
        """Writes the low-rank products A x behind the inputs in `input_TX`."""
        if self.rank:
            torch.mm(input_TX[:, : self.n_in], self._down_RI.T, out=input_TX[:, self.n_in :])

    def input_gradient(self, gradient_TY: Tensor, input_gradient_TI: Tensor) -> None:
        """Writes the inputs' gradient; `gradient_TY` holds the outputs' gradient, and s B' g is written behind it."""
        if self.rank:
            torch.mm(gradient_TY[:, : self.n_out], self._up_OR, out=gradient_TY[:, self.n_out :])
        torch.mm(gradient_TY, self._matrix[:, : self.n_in], out=input_gradient_TI)

    def adapter_gradients(self, gradient_TY: Tensor, input_TX: Tensor) -> None:
        """Adds to the gradients of A and B, in float32, given the rows that `forward` and `input_gradient` filled."""
        if not self.rank:
            return
        down_RI = gradient_TY[:, self.n_out :].T @ input_TX[:, : self.n_in]
        for part in self._parts:
            _accumulate(part.down_RI, down_RI[part.low].float())
            low_TR = input_TX[:, self.n_in + part.low.start : self.n_in + part.low.stop]
            _accumulate(part.up_OR, (low_TR.T @ gradient_TY[:, part.rows]).T.float().mul_(part.scale))


@dataclass(frozen=True, slots=True)
class _Adapter:
    """One layer's adapter in a group: `rows` are the layer's outputs, `low` its ranks among all of the group's."""

    rows: slice
    low: slice
    down_RI: Any
    up_OR: Any
    scale: float


def _ends(bases: Sequence[Any]) -> list[int]:
    """Where each layer's outputs end in the group's."""
    return list(accumulate(base.out_features for base in bases))


def _accumulate(parameter: Any, gradient: Tensor) -> None:
    """Adds to a parameter's gradient, which is zeros where it has none."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    parameter.grad.add_(gradient)
