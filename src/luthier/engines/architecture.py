"""What llama.cpp must know of a model's shape: read from config.json, checked, and named as GGUF names it."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luthier.core.errors import Unsupported
from luthier.engines.safetensors_file import FloatArray

GGUF_NAMES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
"""`architectures` of config.json -> `general.architecture`. To llama.cpp, a Mistral is a Llama."""

_LAYER_MODULES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTER_MODULES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")


@dataclass(frozen=True, slots=True)
class Architecture:
    """The numbers of one model, checked: `read_architecture` refuses what cannot be served."""

    name: str
    layers: int
    hidden: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    context_tokens: int
    vocabulary: int
    norm_epsilon: float
    rope_theta: float
    rope_scaling: Mapping[str, Any]
    tied_embeddings: bool


def read_architecture(hf_folder: Path) -> Architecture:
    """Reads config.json. Raises Unsupported for a model that llama.cpp cannot serve from our files."""
    config = json.loads((hf_folder / "config.json").read_bytes())
    wire_name = (config.get("architectures") or ["none"])[0]
    if wire_name not in GGUF_NAMES:
        raise _unsupported(f"architecture {wire_name}")
    if config.get("sliding_window") and (config.get("use_sliding_window", True)):
        raise _unsupported("sliding window attention")
    if config.get("mlp_bias"):
        raise _unsupported("biases in the MLP")
    if config.get("hidden_act", "silu") != "silu":
        raise _unsupported(f"activation {config['hidden_act']}")
    # transformers 5 writes rope_parameters; older files have rope_theta and rope_scaling at the top.
    rope = config.get("rope_parameters") or {
        "rope_theta": config.get("rope_theta", 10_000.0),
        **(config.get("rope_scaling") or {}),
    }
    if rope.get("rope_type", rope.get("type", "default")) not in ("default", "linear", "llama3"):
        raise _unsupported(f"RoPE scaling of type {rope.get('rope_type', rope.get('type'))}")
    heads = config["num_attention_heads"]
    return Architecture(
        name=GGUF_NAMES[wire_name],
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        feed_forward=config["intermediate_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        context_tokens=config["max_position_embeddings"],
        vocabulary=config["vocab_size"],
        norm_epsilon=config["rms_norm_eps"],
        rope_theta=rope["rope_theta"],
        rope_scaling=rope,
        tied_embeddings=config.get("tie_word_embeddings", False),
    )


def gguf_module(module: str) -> str | None:
    """Names a module of the model as GGUF does, `model.layers.3.mlp.up_proj` -> `blk.3.ffn_up`; None if unknown."""
    if module in _OUTER_MODULES:
        return _OUTER_MODULES[module]
    layer = _LAYER.fullmatch(module)
    if layer is None or layer[2] not in _LAYER_MODULES:
        return None
    return f"blk.{layer[1]}.{_LAYER_MODULES[layer[2]]}"


def interleave_heads(architecture: Architecture, gguf_name: str, rows_RX: FloatArray) -> FloatArray:
    """Reorders the output rows of q and k of the Llama family; every other tensor comes back as it is.

    transformers rotates row i of a head with row i + head_dim / 2, llama.cpp's `llama` rotates row 2i with row 2i + 1
    (GGML_ROPE_TYPE_NORMAL; qwen2 and qwen3 are NEOX there, as in transformers). A LoRA's B makes the same rows.
    """
    if architecture.name != "llama" or not re.search(r"\.attn_[qk]$", gguf_name):
        return rows_RX
    heads = architecture.heads if gguf_name.endswith("q") else architecture.kv_heads
    halves = rows_RX.reshape(heads, 2, architecture.head_dim // 2, *rows_RX.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows_RX.shape)


def rope_divisors(architecture: Architecture) -> FloatArray | None:
    """The tensor `rope_freqs.weight` of Llama 3.1 and later: what each rotary frequency is divided by; else None.

    Long wavelengths are stretched by `factor`, short ones stay, those between are mixed
    (transformers.modeling_rope_utils._compute_llama3_parameters has the same rule, on frequencies).
    """
    scaling = architecture.rope_scaling
    if scaling.get("rope_type", scaling.get("type")) != "llama3":
        return None
    pairs = np.arange(0, architecture.head_dim, 2, dtype=np.float64) / architecture.head_dim
    turns = scaling["original_max_position_embeddings"] * architecture.rope_theta**-pairs / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    divisors: FloatArray = (1.0 / ((1.0 - kept) / scaling["factor"] + kept)).astype(np.float32)
    return divisors


def _unsupported(what: str) -> Unsupported:
    names = ", ".join(sorted(GGUF_NAMES))
    return Unsupported(
        "unsupported_architecture",
        f"This model has {what}, which cannot be exported to GGUF here. Servable architectures: {names}, "
        "with full attention and default, linear or llama3 RoPE.",
    )
