"""The shape of a decoder, and what follows: its parameters, its work for a token, what a pass keeps in memory.

The figures are counted from what torch saves (a test holds them to it), for the usual decoder: attention with grouped
keys, a gated MLP. Other shapes are estimated as if they were that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Any


class Way(StrEnum):
    """How a forward pass keeps what its backward pass needs."""

    FUSED = auto()
    """The decoder written out (fused.py): each activation once, in the model's own dtype."""
    MODULES = auto()
    """The modules of transformers under autograd."""
    RECOMPUTED = auto()
    """The same with each layer's input alone kept, and the rest computed again on the way back."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What config.json says of a decoder; `queries` and `keys` are the widths of all heads together."""

    family: str
    hidden: int
    layers: int
    intermediate: int
    queries: int
    keys: int
    vocabulary: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Shape":
        """Reads a configuration in Hugging Face's words. Raises KeyError for one of another kind."""
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
        """Those of all layers' matrices, the embedding and the head left out."""
        attention = self.hidden * (2 * self.queries + 2 * self.keys)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)


def kept_bytes(shape: Shape, tokens: int, way: Way, size: int) -> int:
    """What stays in memory from forward to backward for so many tokens, in all layers; `size` is that of a number."""
    one_layer = _fused(shape, size) if way is Way.FUSED else _modules(shape, size)
    if way is Way.RECOMPUTED:
        return tokens * (shape.layers * shape.hidden * size + one_layer)
    return tokens * shape.layers * one_layer


def _fused(shape: Shape, size: int) -> int:
    """A token's bytes in one layer of fused.py: what its `_Saved` names."""
    return size * (2 * shape.hidden + 2 * shape.queries + 2 * shape.keys + 2 * shape.intermediate)


def _modules(shape: Shape, size: int) -> int:
    """The same for transformers: norms keep their input in float32, the gated MLP four rows, attention three."""
    norms = 2 * shape.hidden * (4 + size)
    attention = size * (3 * shape.queries + 2 * shape.keys)
    return norms + attention + size * 4 * shape.intermediate
