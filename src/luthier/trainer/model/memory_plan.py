"""The memory plan: how many tokens go through the model at once, and whether activations are recomputed.

It follows from how much memory a forward pass keeps for its backward pass. The figures themselves stand in
core/training/activation_memory.py: a check asks for them too, without torch.
"""

from dataclasses import dataclass
from typing import Any

import torch

from luthier.core.training import activation_memory
from luthier.core.training.activation_memory import TOKEN_BUDGET, ActivationMode, DecoderShape
from luthier.trainer.model import head_loss

MAX_TOKENS = 16_384
"""More at once make a GPU no faster: its matrix products are at full speed long before."""

MIN_TOKENS = 2048
"""Rather than going below, activations are computed a second time: small products leave a GPU idle."""

_SHARE = 0.8
"""Of free memory: the rest is for gradients in flight, logits, and what the estimate does not see."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`tokens` is the token budget of a micro-batch, `recompute` whether layers use activation checkpointing.

    `short` is a warning for the user where memory may not suffice even so; None where it does.
    """

    tokens: int
    recompute: bool = False
    short: str | None = None


def activation_bytes(config: Any, tokens: int, way: ActivationMode, dtype: torch.dtype) -> int:
    """Bytes of activations that so many tokens keep from forward to backward, in all layers.

    `config` is the model's transformers configuration, `way` how they are kept.
    """
    return activation_memory.saved_activation_bytes(
        DecoderShape.from_config(config.to_dict()), tokens, way, dtype.itemsize
    )


def on_cpu(config: Any, dtype: torch.dtype, fused: bool, longest: int, in_all: int, free: int) -> Plan:
    """The plan for a CPU, where free memory never changes the grouping: that would change the last bits of the result.

    `longest` is the longest sequence in tokens, which goes alone if need be; `in_all` the tokens that there are; `free`
    in bytes. `fused` says that the fused decoder computes, which cannot recompute.
    """
    most = max(longest, min(TOKEN_BUDGET, in_all))
    plain = activation_bytes(config, most, ActivationMode.FUSED if fused else ActivationMode.MODULES, dtype)
    if plain <= free * _SHARE:
        return Plan(TOKEN_BUDGET)
    if fused:
        return Plan(TOKEN_BUDGET, short=_short(plain, longest))
    again = activation_bytes(config, most, ActivationMode.RECOMPUTED, dtype)
    return Plan(TOKEN_BUDGET, recompute=True, short=_short(again, longest) if again > free * _SHARE else None)


def on_gpu(config: Any, dtype: torch.dtype, longest: int, free: int) -> Plan:
    """The plan for a GPU: as many tokens as fit, in powers of two so that a restart is likely to find the same.

    `longest` is the longest sequence in tokens, `free` in bytes. Below MIN_TOKENS activations are recomputed instead.
    """
    needed = max(longest, MIN_TOKENS)
    left = max(0, int((free - head_loss.GPU_BYTES) * _SHARE))
    for way in (ActivationMode.MODULES, ActivationMode.RECOMPUTED):
        fitting = left // activation_bytes(config, 1, way, dtype)
        if fitting >= needed:
            return Plan(min(MAX_TOKENS, 1 << (fitting.bit_length() - 1)), recompute=way is ActivationMode.RECOMPUTED)
    short = (
        _short(activation_bytes(config, longest, ActivationMode.RECOMPUTED, dtype), longest)
        if fitting < longest
        else None
    )
    return Plan(max(1, min(MIN_TOKENS, fitting)), recompute=True, short=short)


def _short(needed: int, longest: int) -> str:
    """The warning for a step that keeps `needed` bytes; `longest` is in tokens."""
    return (
        f"A step keeps about {needed / 1e9:.1f} GB of activations, more than is free. If memory runs out: shorten the "
        f"longest example ({longest:,} tokens), lower batch_size, or take a smaller base model."
    )
