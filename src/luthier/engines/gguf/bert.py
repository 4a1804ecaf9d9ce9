"""A BERT encoder's config.json, and its tensors' names in GGUF; what llama.cpp's `bert` lacks is refused.

`embedding_export` writes files of it, `gguf_encoder` reads such files.
"""

import json
import re
from dataclasses import dataclass

import gguf

from luthier.core.errors import Unsupported
from luthier.model_folder import EmbeddingFolder

NAME = "bert"
_LAYER_MODULES = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_OUTER_MODULES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)")
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
POOLINGS = {"mean": gguf.PoolingType.MEAN, "cls": gguf.PoolingType.CLS}
"""How the vectors of a text's tokens become one: their mean, or the first one's."""


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """The hyperparameters of one encoder; `positions` is the longest text in tokens that it can be given."""

    layers: int
    hidden: int
    feed_forward: int
    heads: int
    positions: int
    vocabulary: int
    token_types: int
    norm_epsilon: float


def read_shape(folder: EmbeddingFolder) -> EncoderShape:
    """Reads config.json. Raises Unsupported for one that llama.cpp computes otherwise, KeyError without a size."""
    config = json.loads(folder.hf.config.read_bytes())
    if config.get("model_type") != NAME:
        raise _unsupported(f"model_type {config.get('model_type')!r:.60}")
    if config.get("hidden_act", "gelu") != "gelu":
        raise _unsupported(f"the activation {config['hidden_act']!r:.60}")
    if config.get("position_embedding_type", "absolute") != "absolute":
        raise _unsupported(f"positions of type {config['position_embedding_type']!r:.60}")
    if config.get("is_decoder"):
        raise _unsupported("causal attention")
    return EncoderShape(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        feed_forward=config["intermediate_size"],
        heads=config["num_attention_heads"],
        positions=config["max_position_embeddings"],
        vocabulary=config["vocab_size"],
        token_types=config.get("type_vocab_size", 2),
        norm_epsilon=config.get("layer_norm_eps", 1e-12),
    )


def gguf_module(module: str) -> str | None:
    """Names a module as GGUF does, `encoder.layer.3.output.dense` -> `blk.3.ffn_down`; None without a place there."""
    if module in _OUTER_MODULES:
        return _OUTER_MODULES[module]
    layer = _LAYER.fullmatch(module)
    return None if layer is None or layer[2] not in _LAYER_MODULES else f"blk.{layer[1]}.{_LAYER_MODULES[layer[2]]}"


def module_of(gguf_module: str) -> str | None:
    """The inverse of `gguf_module`; None for a name that it never gives."""
    for module, name in _OUTER_MODULES.items():
        if name == gguf_module:
            return module
    block = _BLOCK.fullmatch(gguf_module)
    found = next((module for module, name in _LAYER_MODULES.items() if block is not None and name == block[2]), None)
    return None if block is None or found is None else f"encoder.layer.{block[1]}.{found}"


def is_left_out(name: str) -> bool:
    """Whether a tensor of a BERT is no part of its text vectors: the pooler, and the numbers of positions."""
    return name.startswith("pooler.") or name == "embeddings.position_ids"


def _unsupported(what: str) -> Unsupported:
    """The error for an encoder with `what`."""
    return Unsupported(
        "unsupported_architecture",
        f"This embedding model has {what}, which cannot be served here: BERT encoders with absolute positions, GELU "
        "and a WordPiece tokenizer are. Choose another one.",
    )
