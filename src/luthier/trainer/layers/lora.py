"""The adapted linear layer as one function: base product and low-rank update without float32 copies of the input.

PEFT's own layer casts its input to float32 and keeps that copy for the backward pass, seven times a block. Here the
low-rank products run in the base's dtype from float32 master weights; gradients arrive at the masters in float32.

Axes: T tokens, I inputs, O outputs, R rank of the adapter.
"""

import types
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor
from torch.nn import functional

from luthier.trainer.layers.quantized_weights import PackedLinear


def use_fused_forward(adapted: torch.nn.Module) -> None:
    """Replaces the forward of every plain LoRA layer without dropout, in place; other layers keep PEFT's."""
    for module in adapted.modules():
        if is_plain(module):
            module.forward = types.MethodType(_forward, module)


def is_plain(module: Any) -> bool:
    """Whether it is a linear layer with one adapter and neither dropout nor a variant of LoRA (DoRA and others)."""
    if not isinstance(module, Linear):
        return False
    (name,) = module.lora_A
    return (
        type(module.base_layer) is torch.nn.Linear
        and name not in module.lora_variant
        and isinstance(module.lora_dropout[name], torch.nn.Identity)
        and module.lora_B[name].bias is None
    )


def _forward(module: Any, inputs: Tensor) -> Tensor:
    """The forward that replaces PEFT's: base output plus scaled low-rank update, in the dtype of `inputs`."""
    (name,) = module.lora_A
    base = module.base_layer
    weight = base if isinstance(base, PackedLinear) else base.weight
    down_RI, up_OR = module.lora_A[name].weight, module.lora_B[name].weight
    scale = module.scaling[name]
    output: Tensor = _Adapted.apply(inputs, weight, base.bias, down_RI, up_OR, scale)  # type: ignore[no-untyped-call]
    return output


class _Adapted(torch.autograd.Function):
    """inputs @ weight.T + bias + scale * (inputs @ down.T) @ up.T, the base's weight and bias being frozen.

    A packed weight is decoded again in the backward pass rather than kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        weight: Tensor | PackedLinear,
        bias_O: Tensor | None,
        down_RI: Tensor,
        up_OR: Tensor,
        scale: float,
    ) -> Tensor:
        """The layer's output; keeps the inputs and their low-rank product for the backward pass."""
        inputs_TI = inputs.reshape(-1, inputs.shape[-1])
        down_RI, up_OR = down_RI.to(inputs.dtype), up_OR.to(inputs.dtype)
        low_TR = inputs_TI @ down_RI.T
        output_TO = functional.linear(inputs_TI, _unpacked(weight, inputs.dtype), bias_O)
        output_TO.addmm_(low_TR, up_OR.T, alpha=scale)
        ctx.save_for_backward(inputs_TI, down_RI, up_OR, low_TR)
        ctx.weight, ctx.scale = weight, scale
        return output_TO.view(*inputs.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        """Gradients of the inputs (None if not needed) and, in float32, of the adapter's down and up weights."""
        (gradient,) = outputs
        inputs_TI, down_RI, up_OR, low_TR = ctx.saved_tensors
        gradient_TO = gradient.reshape(-1, gradient.shape[-1])
        low_gradient_TR = (gradient_TO @ up_OR).mul_(ctx.scale)
        up_gradient_OR = (gradient_TO.T @ low_TR).float().mul_(ctx.scale)
        down_gradient_RI = (low_gradient_TR.T @ inputs_TI).float()
        input_gradient = None
        if ctx.needs_input_grad[0]:
            input_gradient_TI = gradient_TO @ _unpacked(ctx.weight, gradient.dtype)
            input_gradient_TI.addmm_(low_gradient_TR, down_RI)
            input_gradient = input_gradient_TI.view(*gradient.shape[:-1], -1)
        return input_gradient, None, None, down_gradient_RI, up_gradient_OR, None


def _unpacked(weight: Tensor | PackedLinear, dtype: torch.dtype) -> Tensor:
    """A plain weight as it is; a packed one decoded to a new tensor of this dtype."""
    return weight.weight_in(dtype) if isinstance(weight, PackedLinear) else weight
