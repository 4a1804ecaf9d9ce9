"""A Llama-shaped decoder with LoRA, forward and backward written out: few large products, one pass for all between.

What makes it fast, beside `kernels`: the adapters' low-rank products ride along in the base's own (a weight is stored
with the columns of B behind it, an input with its product with A, so that x W' + (x A') B' is one product and its
backward pass another); queries, keys and values are one product, gate and up another; every activation lies in memory
that is taken once and used again in each step. It computes what transformers' modules and PEFT compute, to rounding.

Axes: T tokens, H hidden size, N supervised positions; I, X inputs and Y outputs of a linear group, X and Y with room
for low-rank products behind. A layer's "middle" is its state between attention and MLP.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from luthier.core.training.activation_memory import FUSED_FAMILIES, TOKEN_BUDGET
from luthier.trainer.cpu import amx_attention, kernels
from luthier.trainer.cpu.amx_attention import TileAttention
from luthier.trainer.cpu.fused_linear import LinearGroup
from luthier.trainer.cpu.grouped_attention import Attention
from luthier.trainer.cpu.kernels import Kernels
from luthier.trainer.cpu.workspace import Workspace
from luthier.trainer.dataset import packing
from luthier.trainer.dataset.packing import PackedBatch
from luthier.trainer.layers import lora, rotary
from luthier.trainer.layers.rotary import Angles

_UNBIASED = frozenset({"o_proj", "gate_proj", "up_proj", "down_proj"})

_ROWS = 128
"""Rows of a batch come in multiples of this: oneDNN makes machine code for each new shape of a product, which takes a
step of new length 100 ms and 20 MB that it keeps; lengths that come back find theirs made."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """The weights of one decoder layer: two norms and four groups of linear layers with their adapters."""

    attention_norm_H: Tensor
    mlp_norm_H: Tensor
    qkv: LinearGroup
    out: LinearGroup
    gate_up: LinearGroup
    down: LinearGroup


@dataclass(slots=True)
class _Saved:
    """What the backward pass of one layer needs from its forward pass; buffers of the decoder's workspace.

    The norms' outputs, a sixth of it all, are cheaper computed again than kept. `rstd` is 1 / root mean square.
    """

    input_TH: Tensor
    attention_rstd_T: Tensor
    heads: Any  # what either attention keeps for itself
    mixed_TX: Tensor
    middle_TH: Tensor
    mlp_rstd_T: Tensor
    gate_up_TY: Tensor


class FusedDecoder:
    """The decoder stack of a causal model, adapters in place. `forward` and `backward` come in pairs, one at a time."""

    def __init__(self, causal: Any, kernels: Kernels) -> None:
        """Takes over the model's frozen weights; its linear weights become views of matrices that this object owns."""
        decoder, config = causal.get_decoder(), causal.config
        _unmap(causal)
        heads, groups = config.num_attention_heads, config.num_key_value_heads
        attentions = [layer.self_attn for layer in decoder.layers]
        dim, scale = attentions[0].head_dim, attentions[0].scaling
        self._kernels = kernels
        self._embedding_VH = causal.get_input_embeddings().weight.detach()
        self._dtype = self._embedding_VH.dtype
        self._final_norm_H = decoder.norm.weight.detach()
        self._eps = float(decoder.norm.variance_epsilon)
        self._layers = [_layer(layer) for layer in decoder.layers]
        self._attention: Attention | TileAttention
        if amx_attention.fits(kernels, dim, self._dtype):
            self._attention = TileAttention(kernels, groups, heads // groups, dim, scale)
        else:
            self._attention = Attention(kernels, groups, heads // groups, dim, scale, self._dtype)
        self._angles = Angles(decoder.rotary_emb.inv_freq, float(decoder.rotary_emb.attention_scaling))
        self._space = Workspace(TOKEN_BUDGET)
        self._tape: list[_Saved] = []
        self._end: tuple[Tensor, Tensor, Tensor] | None = None

    @torch.no_grad()
    def forward(self, packed: PackedBatch, keep: bool) -> Tensor:
        """Hidden states [N, H] at `packed.sources_N`; with `keep`, what `backward` needs stays.

        Reads the adapters' present weights. Buffers of the pass before it are overwritten.
        """
        self._tape.clear()
        packed = packing.pad_to_multiple(packed, _ROWS)
        self._attention.plan(packed.segments)
        self._angles.at(packed.positions_T)
        input_TH, delta_TH = self._embedding_VH[packed.token_ids_T], None
        for number, layer in enumerate(self._layers):
            saved, delta_TH = self._layer_forward(layer, number if keep else 0, input_TH, delta_TH)
            input_TH = saved.middle_TH
            if keep:
                self._tape.append(saved)
        normed_TH = self._take("normed", 0, len(input_TH), input_TH.shape[1])
        end_TH, rstd_T = self._norm("end", 0, input_TH, delta_TH, self._final_norm_H, normed_TH)
        self._end = end_TH, rstd_T, packed.sources_N
        return normed_TH.index_select(0, packed.sources_N)

    @torch.no_grad()
    def backward(self, gradient_NH: Tensor) -> None:
        """Adds to the adapters' gradients, given that of the hidden states [N, H] that the last `forward` returned."""
        assert self._end is not None
        end_TH, rstd_T, sources_N = self._end
        tokens, width = end_TH.shape
        normed_gradient_TH = self._take("normed", 0, tokens, width).zero_()
        normed_gradient_TH.index_add_(0, sources_N, gradient_NH)
        gradient_TY = self._take(
            "gradient", 0, tokens, width + max(self._layers[0].out.rank, self._layers[0].down.rank)
        )
        gradient_TY.zero_()
        self._norm_backward(end_TH, self._final_norm_H, rstd_T, normed_gradient_TH, gradient_TY)
        for layer, saved in zip(reversed(self._layers), reversed(self._tape), strict=True):
            self._mlp_backward(layer, saved, gradient_TY)
            self._attention_backward(layer, saved, gradient_TY, layer is self._layers[0])
        self._tape.clear()

    def release(self) -> None:
        """Frees the memory of the activations; the next step allocates it again."""
        self._tape.clear()
        self._end = None
        self._space.clear()

    def _layer_forward(
        self, layer: _Layer, place: int, input_TH: Tensor, delta_TH: Tensor | None
    ) -> tuple[_Saved, Tensor]:
        """What the layer keeps, and the MLP's output [T, H], which is still to be added to the layer's middle.

        `place` numbers the buffers, 0 where nothing is kept; `delta_TH` is the MLP's output of the layer before, if
        any.
        """
        tokens, width = input_TH.shape
        for group in (layer.qkv, layer.out, layer.gate_up, layer.down):
            group.refresh()
        normed_TX = self._input("attention_normed", 0, tokens, layer.qkv)
        input_TH, attention_rstd_T = self._norm("input", place, input_TH, delta_TH, layer.attention_norm_H, normed_TX)
        heads: Any = self._attention.room(self._space, place, tokens)
        layer.qkv.forward(normed_TX, heads.rows)
        mixed_TX = self._input("mixed", place, tokens, layer.out)
        self._attention.forward(heads, self._angles, mixed_TX)
        change_TH = self._take("change", 0, tokens, width)
        layer.out.forward(mixed_TX, change_TH)
        mlp_normed_TX = self._input("mlp_normed", 0, tokens, layer.gate_up)
        middle_TH, mlp_rstd_T = self._norm("middle", place, input_TH, change_TH, layer.mlp_norm_H, mlp_normed_TX)
        gate_up_TY = self._output("gate_up", place, tokens, layer.gate_up)
        layer.gate_up.forward(mlp_normed_TX, gate_up_TY[:, : layer.gate_up.n_out])
        active_TX = self._input("active", 0, tokens, layer.down)
        self._kernels.call(
            "silu_mul", self._dtype, gate_up_TY, gate_up_TY.stride(0), active_TX, active_TX.stride(0), tokens,
            layer.down.n_in,
        )  # fmt: skip
        layer.down.forward(active_TX, change_TH)
        saved = _Saved(input_TH, attention_rstd_T, heads, mixed_TX, middle_TH, mlp_rstd_T, gate_up_TY)
        return saved, change_TH

    def _mlp_backward(self, layer: _Layer, saved: _Saved, gradient_TY: Tensor) -> None:
        """Turns the gradient of the layer's output, in the first columns, into that of its middle, in place.

        Adds to the gradients of the MLP's adapters; overwrites what `saved` holds of gate and up.
        """
        tokens = len(gradient_TY)
        given_TY = gradient_TY[:, : layer.down.n_out + layer.down.rank]
        wide_TI = self._take("wide", 0, tokens, layer.down.n_in)
        layer.down.input_gradient(given_TY, wide_TI)
        active_TX, gate_up_TY = self._input("active", 0, tokens, layer.down), saved.gate_up_TY
        self._kernels.call(
            "silu_mul_backward", self._dtype, gate_up_TY, gate_up_TY.stride(0), wide_TI, wide_TI.stride(0), active_TX,
            active_TX.stride(0), tokens, layer.down.n_in,
        )  # fmt: skip
        layer.down.low(active_TX)
        layer.down.adapter_gradients(given_TY, active_TX)
        narrow_TI = self._take("wide", 0, tokens, layer.gate_up.n_in)
        layer.gate_up.input_gradient(gate_up_TY, narrow_TI)
        normed_TX = self._normed_again("mlp_normed", saved.middle_TH, layer.mlp_norm_H, layer.gate_up)
        layer.gate_up.adapter_gradients(gate_up_TY, normed_TX)
        self._norm_backward(saved.middle_TH, layer.mlp_norm_H, saved.mlp_rstd_T, narrow_TI, gradient_TY)

    def _attention_backward(self, layer: _Layer, saved: _Saved, gradient_TY: Tensor, lowest: bool) -> None:
        """Turns the gradient of the layer's middle into that of its input (not in the lowest layer), in place.

        Adds to the gradients of the attention's adapters.
        """
        tokens = len(gradient_TY)
        given_TY = gradient_TY[:, : layer.out.n_out + layer.out.rank]
        mixed_gradient_TI = self._take("wide", 0, tokens, layer.out.n_in)
        layer.out.input_gradient(given_TY, mixed_gradient_TI)
        layer.out.adapter_gradients(given_TY, saved.mixed_TX)
        qkv_TY = self._output("qkv", 0, tokens, layer.qkv)
        self._attention.backward(saved.heads, self._angles, saved.mixed_TX, mixed_gradient_TI, qkv_TY)
        narrow_TI = self._take("wide", 0, tokens, layer.qkv.n_in)
        layer.qkv.input_gradient(qkv_TY, narrow_TI)
        normed_TX = self._normed_again("attention_normed", saved.input_TH, layer.attention_norm_H, layer.qkv)
        layer.qkv.adapter_gradients(qkv_TY, normed_TX)
        if not lowest:
            self._norm_backward(saved.input_TH, layer.attention_norm_H, saved.attention_rstd_T, narrow_TI, gradient_TY)

    def _norm(
        self, name: str, place: int, input_TH: Tensor, delta_TH: Tensor | None, weight_H: Tensor, normed_TX: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The sum of input and delta, and one over its root mean square; writes the normed sum to `normed_TX`.

        `name` and `place` name the buffers of both results; without a delta the sum is the input itself.
        """
        rows, width = input_TH.shape
        sum_TH = input_TH if delta_TH is None else self._take(name, place, rows, width)
        rstd_T = self._space.take(f"{name} rstd", place, (rows,), torch.float32)
        self._kernels.call(
            "add_norm", self._dtype, input_TH, delta_TH, sum_TH, weight_H, normed_TX, normed_TX.stride(0), rstd_T,
            rows, width, self._eps,
        )  # fmt: skip
        return sum_TH, rstd_T

    def _normed_again(self, name: str, input_TH: Tensor, weight_H: Tensor, group: LinearGroup) -> Tensor:
        """A group's normed inputs with their low-rank products, to the last bit what the forward pass made of them."""
        normed_TX = self._input(name, 0, len(input_TH), group)
        self._norm("", 0, input_TH, None, weight_H, normed_TX)
        group.low(normed_TX)
        return normed_TX

    def _norm_backward(
        self, input_TH: Tensor, weight_H: Tensor, rstd_T: Tensor, given_TH: Tensor, gradient_TX: Tensor
    ) -> None:
        """Adds to the first columns of `gradient_TX` the gradient of the norm's input, given that of its output."""
        self._kernels.call(
            "norm_backward", self._dtype, input_TH, weight_H, rstd_T, given_TH, given_TH.stride(0), gradient_TX,
            gradient_TX.stride(0), *input_TH.shape,
        )  # fmt: skip

    def _input(self, name: str, number: int, tokens: int, group: LinearGroup) -> Tensor:
        """A buffer for the inputs of a group and, behind them, their low-rank products."""
        return self._take(name, number, tokens, group.n_in + group.rank)

    def _output(self, name: str, number: int, tokens: int, group: LinearGroup) -> Tensor:
        """A buffer for the outputs of a group and, behind them, the low-rank products of their gradient."""
        return self._take(name, number, tokens, group.n_out + group.rank)

    def _take(self, name: str, number: int, *shape: int) -> Tensor:
        """A buffer of the workspace in the model's dtype; its values are undefined."""
        return self._space.take(name, number, shape, self._dtype)


def build(causal: Any, compiled: Kernels | None) -> FusedDecoder | None:
    """The fused decoder of a model that has its shape, where there are kernels for it; else None.

    The model's linear weights become views of the decoder's.
    """
    return FusedDecoder(causal, compiled) if compiled is not None and _fits(causal) else None


def _fits(causal: Any) -> bool:
    """Whether the model is one that this decoder computes: its family, on a CPU, no dropout, plain LoRA or none."""
    config = causal.config
    if config.model_type not in FUSED_FAMILIES or causal.device.type != "cpu" or causal.dtype not in kernels.DTYPES:
        return False
    decoder = causal.get_decoder()
    blocks = [block for layer in decoder.layers for block in (layer.self_attn, layer.mlp)]
    linears = [module for block in blocks for name, module in block.named_children() if name.endswith("_proj")]
    unbiased = [module for block in blocks for name, module in block.named_children() if name in _UNBIASED]
    return (
        config.hidden_act == "silu"
        and getattr(decoder.rotary_emb, "rope_type", None) in rotary.FIXED
        and not getattr(config, "use_sliding_window", getattr(config, "sliding_window", None))
        and all(isinstance(module, torch.nn.Linear) or lora.is_plain(module) for module in linears)
        and all(getattr(module, "base_layer", module).bias is None for module in unbiased)
    )


def _layer(layer: Any) -> _Layer:
    """The weights of a transformers decoder layer, grouped; its linear weights become views of the groups'."""
    attention, mlp = layer.self_attn, layer.mlp
    return _Layer(
        attention_norm_H=layer.input_layernorm.weight.detach(),
        mlp_norm_H=layer.post_attention_layernorm.weight.detach(),
        qkv=LinearGroup([attention.q_proj, attention.k_proj, attention.v_proj]),
        out=LinearGroup([attention.o_proj]),
        gate_up=LinearGroup([mlp.gate_proj, mlp.up_proj]),
        down=LinearGroup([mlp.down_proj]),
    )


def _unmap(causal: Any) -> None:
    """Copies frozen tensors that no group copies: one still mapped from the weights' file keeps all of it in memory."""
    linears = {id(layer.weight) for layer in causal.modules() if isinstance(layer, torch.nn.Linear)}
    kept = {id(causal.get_input_embeddings().weight)}
    for parameter in causal.parameters():
        if not parameter.requires_grad and (id(parameter) in kept or id(parameter) not in linears):
            parameter.data = parameter.data.clone()
