"""A model's architecture, from config.json as GGUF metadata and tensor names; unsupported ones are refused.

`export` writes the files of it; what is refused cannot be served by llama.cpp.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luthier.core.errors import Unsupported
from luthier.engines.gguf.safetensors_file import FloatArray
from luthier.model_folder import HuggingFaceFolder

GGUF_NAMES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "Gemma3ForCausalLM": "gemma3",
    "Phi3ForCausalLM": "phi3",
}
"""`architectures` of config.json -> `general.architecture`. To llama.cpp, a Mistral is a Llama, and a Phi-4 a Phi-3."""

_LAYER_MODULES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_GEMMA_LAYER_MODULES = {
    **_LAYER_MODULES,
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
_OUTER_MODULES = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)")
_SOFT_CAPS = ("attn_logit_softcapping", "final_logit_softcapping")
_GEMMA_LAYERS_OF_27B = 62
"""llama.cpp recognizes the 27B by its number of layers, and scales its queries by another number than head_dim."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Sliding-window layers of a Gemma 3, all but every `period`-th: they attend to the last `tokens` positions.

    `rope_theta` is their own RoPE base.
    """

    tokens: int
    period: int
    rope_theta: float


@dataclass(frozen=True, slots=True)
class Architecture:
    """The hyperparameters of one model. `windows` is None if all layers have full attention.

    `rope_scaling` are the RoPE parameters of config.json for the layers with full attention.
    """

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
    windows: Windows | None = None

    @property
    def rotary_dim(self) -> int:
        """How many of a head's dimensions are rotated; Phi-4-mini rotates three quarters."""
        return int(self.head_dim * self.rope_scaling.get("partial_rotary_factor", 1.0))


def read_architecture(hf_folder: Path) -> Architecture:
    """Reads config.json. Raises Unsupported for a model that llama.cpp cannot serve from our files.

    Raises KeyError where a size is missing.
    """
    config = json.loads(HuggingFaceFolder(hf_folder).config.read_bytes())
    wire_name = (config.get("architectures") or ["none"])[0]
    if wire_name not in GGUF_NAMES:
        raise _unsupported(f"architecture {wire_name}")
    name = GGUF_NAMES[wire_name]
    if config.get("mlp_bias"):
        raise _unsupported("biases in the MLP")
    activation = config.get("hidden_activation" if name == "gemma3" else "hidden_act", "silu")
    if activation != ("gelu_pytorch_tanh" if name == "gemma3" else "silu"):
        raise _unsupported(f"activation {activation}")
    rope = _rope(config)
    if rope.get("rope_type", rope.get("type", "default")) not in ("default", "linear", "llama3"):
        raise _unsupported(f"RoPE scaling of type {rope.get('rope_type', rope.get('type'))}")
    heads = config["num_attention_heads"]
    return Architecture(
        name=name,
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        feed_forward=config["intermediate_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        context_tokens=_context_tokens(name, config),
        vocabulary=config["vocab_size"],
        norm_epsilon=config["rms_norm_eps"],
        rope_theta=rope["rope_theta"],
        rope_scaling=rope,
        tied_embeddings=config.get("tie_word_embeddings", False),
        windows=_gemma_windows(config) if name == "gemma3" else None,
    )


def gguf_module(architecture: str, module: str) -> str | None:
    """Names a module of the model as GGUF does, `model.layers.3.mlp.up_proj` -> `blk.3.ffn_up`; None if unknown."""
    if module in _OUTER_MODULES:
        return _OUTER_MODULES[module]
    layer = _LAYER.fullmatch(module)
    names = _GEMMA_LAYER_MODULES if architecture == "gemma3" else _LAYER_MODULES
    if layer is None or layer[2] not in names:
        return None
    return f"blk.{layer[1]}.{names[layer[2]]}"


def served_values(architecture: Architecture, gguf_name: str, values_RX: FloatArray) -> FloatArray:
    """A base's tensor, or a LoRA's B, as llama.cpp expects it: heads in its order, and 1 added to Gemma's norms.

    Gemma multiplies by 1 + weight in its norms; llama.cpp by the weight. The argument stays as it is.
    """
    if architecture.name == "gemma3" and gguf_name.endswith("norm"):
        return values_RX + np.float32(1.0)
    return _interleave_heads(architecture, gguf_name, values_RX)


def _interleave_heads(architecture: Architecture, gguf_name: str, rows_RX: FloatArray) -> FloatArray:
    """Reorders the output rows of q and k of the Llama family; every other tensor is returned unchanged.

    transformers rotates row i of a head with row i + head_dim / 2, llama.cpp's `llama` rotates row 2i with row 2i + 1
    (GGML_ROPE_TYPE_NORMAL; the others are NEOX there, as in transformers). A LoRA's B makes the same rows.
    """
    if architecture.name != "llama" or not re.search(r"\.attn_[qk]$", gguf_name):
        return rows_RX
    heads = architecture.heads if gguf_name.endswith("q") else architecture.kv_heads
    halves = rows_RX.reshape(heads, 2, architecture.head_dim // 2, *rows_RX.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows_RX.shape)


def rope_divisors(architecture: Architecture) -> FloatArray | None:
    """The tensor `rope_freqs.weight` of Llama 3.1 and later, float32 [head_dim / 2]; None for other RoPE.

    Each rotary frequency is divided by its number: long wavelengths are stretched by `factor`, short ones are kept,
    those between are interpolated (transformers.modeling_rope_utils._compute_llama3_parameters has the rule, on
    frequencies).
    """
    scaling = architecture.rope_scaling
    if scaling.get("rope_type", scaling.get("type")) != "llama3":
        return None
    pairs = np.arange(0, architecture.head_dim, 2, dtype=np.float64) / architecture.head_dim
    turns = scaling["original_max_position_embeddings"] * architecture.rope_theta**-pairs / (2 * math.pi)
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    divisors: FloatArray = (1.0 / ((1.0 - smooth) / scaling["factor"] + smooth)).astype(np.float32)
    return divisors


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The RoPE parameters of the full-attention layers: `rope_theta`, and type and factors of a scaling."""
    # transformers 5 writes rope_parameters; older files have rope_theta and rope_scaling at the top.
    rope: Mapping[str, Any] = config.get("rope_parameters") or {
        "rope_theta": config.get("rope_theta", 10_000.0),
        **(config.get("rope_scaling") or {}),
    }
    full: Mapping[str, Any] = rope.get("full_attention", rope)
    return full


def _context_tokens(name: str, config: Mapping[str, Any]) -> int:
    """The model's context length in the engine, which caps its slots by it.

    Raises Unsupported for windows not computed there. llama.cpp gives every layer of a Phi-3 full attention. Up to the
    length of the sliding window that is the same.
    """
    context_tokens: int = config["max_position_embeddings"]
    window: int | None = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    if window and name == "phi3":
        return min(context_tokens, window)
    if window and name != "gemma3":
        raise _unsupported("sliding window attention")
    return context_tokens


def _gemma_windows(config: Mapping[str, Any]) -> Windows:
    """The sliding-window layers of a Gemma 3. Raises Unsupported for what llama.cpp's gemma3 cannot compute."""
    if config.get("use_bidirectional_attention"):
        raise _unsupported("bidirectional attention")
    if config.get("attention_bias"):
        raise _unsupported("biases in attention")
    for cap in _SOFT_CAPS:
        if config.get(cap) is not None:
            raise _unsupported(f"{cap}, which training cannot do either")
    is_27b = config["num_hidden_layers"] == _GEMMA_LAYERS_OF_27B
    width = config["hidden_size"] // config["num_attention_heads"] if is_27b else config["head_dim"]
    if config["query_pre_attn_scalar"] != width:
        raise _unsupported(f"queries scaled by {config['query_pre_attn_scalar']} where llama.cpp scales by {width}")
    kinds = [kind == "full_attention" for kind in config["layer_types"]]
    period = kinds.index(True) + 1 if True in kinds else len(kinds) + 1
    if kinds != [(layer + 1) % period == 0 for layer in range(len(kinds))]:
        raise _unsupported("windowed layers in an irregular order")
    local = config["rope_parameters"]["sliding_attention"]
    if local.get("rope_type", "default") != "default":
        raise _unsupported(f"RoPE scaling of type {local['rope_type']} in windowed layers")
    return Windows(config["sliding_window"], period, local["rope_theta"])


def _unsupported(what: str) -> Unsupported:
    """The error for a model with `what`; it names the architectures that can be served."""
    names = ", ".join(sorted(GGUF_NAMES))
    return Unsupported(
        "unsupported_architecture",
        f"This model has {what}, which cannot be exported to GGUF here. Servable architectures: {names}, "
        "with default, linear or llama3 RoPE and, Gemma 3 apart, full attention. Choose a base model of these.",
    )
