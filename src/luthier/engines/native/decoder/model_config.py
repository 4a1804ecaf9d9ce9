"""What a config.json of transformers says of a model, and the rule that says which models the decoder computes."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from luthier.engines.native.decoder.library import LANES, Shape
from luthier.model_folder import BaseModelFolder, CheckpointFolder, HuggingFaceFolder

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
"""Of transformers: what decoder.cpp computes."""
_MAX_HEAD_DIM = 256
_MISTRAL_WINDOW = 4096
_QWEN_FULL_LAYERS = 28
"""Defaults of MistralConfig.sliding_window and of Qwen2Config.max_window_layers and Qwen3Config's."""


class Unsupported(Exception):
    """A model that the decoder does not compute; the message says why.

    Not core.errors.Unsupported, for no caller sees it: `choice` turns to llama.cpp, an engine process reports it.
    """


def read_config(hf: HuggingFaceFolder) -> dict[str, Any]:
    """config.json as it is. Raises OSError and ValueError."""
    config: dict[str, Any] = json.loads(hf.config.read_bytes())
    return config


def hf_folder(base_folder: Path) -> HuggingFaceFolder:
    """The Hugging Face layout of what is served: of a prepared base model, or else of a checkpoint with all weights."""
    hf = BaseModelFolder(base_folder).hf
    return hf if hf.path.exists() else CheckpointFolder(base_folder).hf


def shape_of(config: Mapping[str, Any], n_pages: int) -> Shape:
    """The sizes of a model, and a KV cache of `n_pages`. Raises Unsupported for one that is not computed here.

    Raises KeyError where a size is missing.
    """
    names: list[str] = config.get("architectures") or []
    if not set(ARCHITECTURES).intersection(names):
        raise Unsupported(f"its architecture is {', '.join(names) or 'not named'}")
    if config.get("hidden_act", "silu") != "silu":
        raise Unsupported(f"its activation is {config['hidden_act']}")
    if config.get("mlp_bias"):
        raise Unsupported("its MLP has biases")
    if config.get("quantization_config"):
        raise Unsupported("its weights are quantized")
    heads = int(config["num_attention_heads"])
    shape = Shape(
        n_layers=int(config["num_hidden_layers"]),
        hidden=int(config["hidden_size"]),
        n_heads=heads,
        n_kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or config["hidden_size"] // heads),
        intermediate=int(config["intermediate_size"]),
        vocabulary=int(config["vocab_size"]),
        context=int(config["max_position_embeddings"]),
        sliding_window=_sliding_window(config, names[0]),
        n_pages=n_pages,
        epsilon=float(config.get("rms_norm_eps", 1e-6)),
    )
    odd = [size for size in (shape.hidden, shape.head_dim, shape.intermediate) if size % LANES]
    if odd:
        raise Unsupported(f"its sizes are no multiples of {LANES}")
    if shape.head_dim > _MAX_HEAD_DIM:
        raise Unsupported(f"its heads have {shape.head_dim} dimensions, of {_MAX_HEAD_DIM} at most")
    if shape.n_heads % shape.n_kv_heads:
        raise Unsupported("its query heads cannot be divided among its key heads")
    inverse_frequencies(config, shape.head_dim)
    return shape


def _sliding_window(config: Mapping[str, Any], architecture: str) -> int:
    """The window of all layers in tokens, 0 for none, as the configuration classes of transformers read it.

    Raises Unsupported where layers differ.
    """
    match architecture:
        case "MistralForCausalLM":
            window = int(config.get("sliding_window", _MISTRAL_WINDOW) or 0)
            if window and len(set(config.get("layer_types") or ())) > 1:
                raise Unsupported("its layers differ in what they attend to")
            return window
        case "Qwen2ForCausalLM" | "Qwen3ForCausalLM":
            window = int(config.get("sliding_window", 4096) or 0) if config.get("use_sliding_window") else 0
        case _:
            return 0
    full = int(config.get("max_window_layers", _QWEN_FULL_LAYERS))
    types = config.get("layer_types") or [
        "full_attention" if layer < full else "sliding_attention" for layer in range(config["num_hidden_layers"])
    ]
    kinds = set(types) if window else {"full_attention"}
    if len(kinds) > 1:
        raise Unsupported("its layers differ in what they attend to")
    return window if kinds == {"sliding_attention"} else 0


def inverse_frequencies(config: Mapping[str, Any], head_dim: int) -> Any:
    """The inverse frequencies of rotary embeddings, float32 [head_dim / 2]: the default, linear and Llama 3's.

    As transformers' modeling_rope_utils computes them. Raises Unsupported for other kinds.
    """
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    base = float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0)
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if rope.get("partial_rotary_factor", 1.0) != 1.0 or config.get("partial_rotary_factor", 1.0) != 1.0:
        raise Unsupported("only a part of its heads is rotated")
    frequencies = 1.0 / (np.float32(base) ** (np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)))
    match kind:
        case "default":
            return frequencies
        case "linear":
            return frequencies / np.float32(rope["factor"])
        case "llama3":
            return _llama3(frequencies, rope)
        case _:
            raise Unsupported(f"its rotary embedding is of the type {kind}")


def _llama3(frequencies: Any, rope: Mapping[str, Any]) -> Any:
    """Llama 3's scaling of the frequencies: long waves are slowed down by a factor, short ones stay.

    Between the two bounds it goes smoothly.
    """
    factor, low, high = (float(rope[name]) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    context = float(rope["original_max_position_embeddings"])
    waves = 2 * math.pi / frequencies
    smooth = np.clip((context / waves - low) / (high - low), 0, 1)
    return ((1 - smooth) * frequencies / factor + smooth * frequencies).astype(np.float32)
