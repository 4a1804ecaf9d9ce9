"""Frozen weights in eight or four bits: packed when the model is loaded, decoded layer by layer where needed.

8bit: a row of a weight is its largest magnitude times n / 127. 4bit: a block of 64 numbers is its largest magnitude
times one of 16 values, those that split a normal distribution evenly (NF4: Dettmers and others, "QLoRA", 2023).

A base for it is rounded to these grids when it is prepared (`prepare`), so that what is stored, trained on and served
are the same bf16 numbers. The largest magnitude of a row or block stays as it is, and packing the rounded weights gives
them back to the bit: `pack` refuses others. Axes: O outputs, I inputs, G rows or blocks of N numbers.
"""

from collections.abc import Iterator
from statistics import NormalDist
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from luthier.core.errors import InvalidRequest
from luthier.run_directory.train_spec import Quantization

BLOCK = 64
_LARGEST = 127


def normal_values() -> list[float]:
    """The 16 values of NF4: seven from -1 to below 0, zero, eight to 1; quantiles at even distances on either side."""
    edge = 1 - (1 / 32 + 1 / 30) / 2
    quantile = NormalDist().inv_cdf
    below = [-quantile(edge + (0.5 - edge) * place / 7) for place in range(7)]
    above = [quantile(edge + (0.5 - edge) * place / 8) for place in range(8)]
    return [value / above[0] for value in sorted([*below, 0.0, *above])]


_VALUES = torch.tensor(normal_values())
_PAIRS = torch.stack([_VALUES.repeat(16), _VALUES.repeat_interleave(16)], dim=1)
"""Both values of a byte: that of its lower half first."""


class PackedLinear(torch.nn.Module):
    """A frozen linear layer that holds codes and magnitudes in place of its weight.

    8bit: an int8 code per number and a magnitude per row. 4bit: two codes per byte and a magnitude per block.
    Magnitudes are bf16.
    """

    def __init__(self, linear: torch.nn.Linear, kind: Quantization) -> None:
        """Packs the weight of `linear`, rounding it if it is not on the grid of `kind`; shares its bias."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.kind = kind
        self.bias = linear.bias
        codes, magnitudes = _encode(linear.weight.detach(), kind)
        self.codes, self.magnitudes = torch.nn.Buffer(codes), torch.nn.Buffer(magnitudes)

    def weight_in(self, dtype: torch.dtype) -> Tensor:
        """The weight [O, I], decoded: rounded to bf16, as it is stored and served, and then cast to this dtype."""
        return _decode(self.codes, self.magnitudes, self.kind).view(self.out_features, self.in_features).to(dtype)

    def forward(self, inputs: Tensor) -> Tensor:
        """The layer's output, as torch.nn.Linear's."""
        output: Tensor = _Frozen.apply(inputs, self)  # type: ignore[no-untyped-call]
        return output


class _Frozen(torch.autograd.Function):
    """A linear layer's product whose weight is decoded again in the backward pass rather than kept."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, layer: PackedLinear) -> Tensor:
        """The output of the layer; keeps the layer alone for the backward pass."""
        ctx.layer = layer
        return functional.linear(inputs, layer.weight_in(inputs.dtype), layer.bias)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        """The gradient of the inputs; the layer has none."""
        (gradient,) = outputs
        return gradient @ ctx.layer.weight_in(gradient.dtype), None


def rounded(weight_OI: Tensor, kind: Quantization) -> Tensor:
    """The weight on the grid of `kind`, in bf16. Rounded once more it stays as it is."""
    return _decode(*_encode(weight_OI.bfloat16(), kind), kind).view(weight_OI.shape)


@torch.no_grad()
def round_base(causal: Any, kind: Quantization) -> None:
    """Rounds the linear layers of a model's decoder, all but embeddings and head, in place.

    Raises InvalidRequest for a weight that is not made of whole blocks of 64.
    """
    for _, _, linear in _linears(causal):
        if linear.weight.numel() % BLOCK:
            raise InvalidRequest("not_quantizable", f"Weights of {linear.weight.numel()} numbers are no whole blocks.")
        linear.weight.copy_(rounded(linear.weight, kind))


def pack(causal: Any, kind: Quantization) -> None:
    """Replaces every frozen linear layer of the decoder by a PackedLinear, in place.

    Raises InvalidRequest for a base that was not rounded before: packing would change its numbers here, and not where
    the model is served.
    """
    for parent, name, linear in list(_linears(causal)):
        packed = PackedLinear(linear, kind)
        if not torch.equal(packed.weight_in(linear.weight.dtype), linear.weight):
            raise InvalidRequest(
                "base_not_quantized",
                f"The catalog asks for training on {kind} weights, and this base model was brought here without. "
                "Give the entry a name of its own and run `luthier models pull`: these are other weights, and what was "
                "tuned on those of today needs them.",
            )
        setattr(parent, name, packed)


def _linears(causal: Any) -> Iterator[tuple[torch.nn.Module, str, torch.nn.Linear]]:
    """Yields parent module, name and layer of each frozen linear layer in the decoder's layers."""
    for layer in causal.get_decoder().layers:
        for parent in layer.modules():
            for name, child in parent.named_children():
                if type(child) is torch.nn.Linear and not child.weight.requires_grad:
                    yield parent, name, child


def _encode(weight_OI: Tensor, kind: Quantization) -> tuple[Tensor, Tensor]:
    """The codes, and the magnitudes in bf16 [G, 1]; codes are [G, N] in 8 bits, else bytes in one row."""
    values_GN = weight_OI.float().reshape(-1, weight_OI.shape[-1] if kind == "8bit" else BLOCK)
    magnitudes_G1 = values_GN.abs().amax(dim=1, keepdim=True)
    shares_GN = values_GN / magnitudes_G1.clamp_min(torch.finfo(torch.float32).tiny)
    if kind == "8bit":
        return (shares_GN * _LARGEST).round().to(torch.int8), magnitudes_G1.bfloat16()
    table = _VALUES.to(weight_OI.device)
    nearest = torch.bucketize(shares_GN, (table[1:] + table[:-1]) / 2).to(torch.uint8).flatten()
    return nearest[0::2] | (nearest[1::2] << 4), magnitudes_G1.bfloat16()


def _decode(codes: Tensor, magnitudes_G1: Tensor, kind: Quantization) -> Tensor:
    """The numbers in bf16, [G, N]: what `_encode` was given, rounded to the grid."""
    if kind == "8bit":
        return (codes.float() * (magnitudes_G1.float() / _LARGEST)).bfloat16()
    values_GN = _PAIRS.to(codes.device)[codes.int()].view(-1, BLOCK)
    return (values_GN * magnitudes_G1.float()).bfloat16()
