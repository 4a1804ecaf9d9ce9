"""The shape of a decoder, and what follows from it: parameters, and activation memory of a pass.

The figures are counted from what torch saves (a test holds them to it), for the usual decoder: attention with grouped
keys, a gated MLP. Other shapes are estimated as if they were that. Here, and not in the trainer, because the check of a
file estimates a run with them too, without torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any

TOKEN_BUDGET = 2048
"""Tokens per forward pass in training: matrix products are at full speed from some hundreds on; more costs memory. A
longer sequence has a pass of its own."""

FUSED_FAMILIES = frozenset({"llama", "mistral", "qwen2"})
"""model_type of the configurations that trainer/cpu/fused_decoder.py computes: pre-norm, rotary, gated SiLU."""


class ActivationMode(StrEnum):
    """How a forward pass keeps what its backward pass needs."""

    FUSED = auto()
    """The fused decoder (trainer/cpu/fused_decoder.py): each activation once, in the model's own dtype."""
    MODULES = auto()
    """The modules of transformers under autograd."""
    RECOMPUTED = auto()
    """Activation checkpointing: only each layer's input is kept, and the rest is recomputed in the backward pass."""


@dataclass(frozen=True, slots=True)
class DecoderShape:
    """What config.json says of a decoder: widths in numbers per token, counts of layers and of the vocabulary.

    `queries` and `keys` are the widths of all heads together; `family` is the model_type.
    """

    family: str
    hidden: int
    layers: int
    intermediate: int
    queries: int
    keys: int
    vocabulary: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "DecoderShape":
        """Reads a configuration in Hugging Face's words. Raises KeyError if it is no decoder's."""
        heads = int(config["num_attention_heads"])
        hidden = int(config["hidden_size"])
        head_dim = int(config.get("head_dim") or hidden // heads)
        return cls(
            family=str(config.get("model_type", "")),
            hidden=hidden,
            layers=int(config["num_hidden_layers"]),
            intermediate=int(config["intermediate_size"]),
            queries=heads * head_dim,
            keys=int(config.get("num_key_value_heads") or heads) * head_dim,
            vocabulary=int(config["vocab_size"]),
        )

    @property
    def body_parameters(self) -> int:
        """Number of weights in all layers' matrices; embedding, head and norms are left out."""
        attention = self.hidden * (2 * self.queries + 2 * self.keys)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)


def saved_activation_bytes(shape: DecoderShape, tokens: int, way: ActivationMode, size: int) -> int:
    """Bytes that stay from the forward to the backward pass for so many tokens, in all layers.

    `size` is the bytes of one number. Recomputed, each layer keeps its input, and one layer at a time all the rest.
    """
    one_layer = _fused(shape, size) if way is ActivationMode.FUSED else _modules(shape, size)
    if way is ActivationMode.RECOMPUTED:
        return tokens * (shape.layers * shape.hidden * size + one_layer)
    return tokens * shape.layers * one_layer


def _fused(shape: DecoderShape, size: int) -> int:
    """Bytes of one token in one layer of the fused decoder: what its `_Saved` names."""
    return size * (2 * shape.hidden + 2 * shape.queries + 2 * shape.keys + 2 * shape.intermediate)


def _modules(shape: DecoderShape, size: int) -> int:
    """Bytes of one token in one layer of transformers: norms keep float32 input, the MLP four rows, attention three."""
    norms = 2 * shape.hidden * (4 + size)
    attention = size * (3 * shape.queries + 2 * shape.keys)
    return norms + attention + size * 4 * shape.intermediate
