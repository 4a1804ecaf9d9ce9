"""A model folder in Hugging Face layout as a decoder, and the rule that says which models it computes."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from luthier.core.errors import Unavailable
from luthier.engines.native.library import LANES, PAGE, Decoder, Format, Module, Norm, Shape
from luthier.model_folder import BaseModelFolder, CheckpointFolder, HuggingFaceFolder

ARCHITECTURES = frozenset({"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"})
"""Of transformers: what decoder.cpp computes."""
_MAX_HEAD_DIM = 256
_MODULES = {
    "self_attn.q_proj": Module.Q,
    "self_attn.k_proj": Module.K,
    "self_attn.v_proj": Module.V,
    "self_attn.o_proj": Module.O,
    "mlp.gate_proj": Module.GATE,
    "mlp.up_proj": Module.UP,
    "mlp.down_proj": Module.DOWN,
}
_NORMS = {
    "input_layernorm": Norm.INPUT,
    "post_attention_layernorm": Norm.POST_ATTENTION,
    "self_attn.q_norm": Norm.QUERY,
    "self_attn.k_norm": Norm.KEY,
}
_FORMATS = {
    "F32": (Format.FLOAT32, np.float32),
    "BF16": (Format.BFLOAT16, np.uint16),
    "F16": (Format.FLOAT16, np.uint16),
}
_ADAPTER_PREFIX = "base_model.model."


class Unsupported(Exception):
    """A model that the decoder does not compute; the message says why."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor where it lies in its file; bfloat16 and float16 as uint16."""

    format: Format
    values: Any

    def floats(self) -> Any:
        """A copy in float32."""
        match self.format:
            case Format.FLOAT32:
                return np.ascontiguousarray(self.values, np.float32)
            case Format.FLOAT16:
                return self.values.view(np.float16).astype(np.float32)
            case Format.BFLOAT16:
                return (self.values.astype(np.uint32) << 16).view(np.float32)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, mapped into memory. Raises OSError, and Unsupported for other formats."""
    mapped = np.memmap(path, np.uint8, "r")
    length = int.from_bytes(mapped[:8].tobytes(), "little")
    header = json.loads(mapped[8 : 8 + length].tobytes())
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _FORMATS:
            raise Unsupported(f"its tensor {name} is of the type {entry['dtype']}")
        format, dtype = _FORMATS[entry["dtype"]]
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = Tensor(format, mapped[begin:end].view(dtype).reshape(entry["shape"]))
    return tensors


def shape_of(config: Mapping[str, Any], n_pages: int) -> Shape:
    """The sizes that a config.json of transformers names. Raises Unsupported for a model that is not computed here."""
    names = config.get("architectures") or ()
    if not ARCHITECTURES.intersection(names):
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
        sliding_window=_sliding_window(config),
        n_pages=n_pages,
        epsilon=float(config.get("rms_norm_eps", 1e-6)),
    )
    odd = [size for size in (shape.hidden, shape.head_dim, shape.intermediate) if size % LANES]
    if odd or shape.head_dim > _MAX_HEAD_DIM or shape.n_heads % shape.n_kv_heads:
        raise Unsupported(f"its sizes are no multiples of {LANES}")
    _inverse_frequencies(config, shape.head_dim)
    return shape


def _sliding_window(config: Mapping[str, Any]) -> int:
    """The window of all layers, 0 for none. Raises Unsupported where layers differ."""
    window = config.get("sliding_window")
    if not window or not config.get("use_sliding_window", True):
        return 0
    if len(set(config.get("layer_types") or ("",))) > 1:
        raise Unsupported("its layers differ in what they attend to")
    if config.get("layer_types") and config["layer_types"][0] == "full_attention":
        return 0
    return int(window)


def _inverse_frequencies(config: Mapping[str, Any], head_dim: int) -> Any:
    """Of rotary embeddings (transformers' modeling_rope_utils): the default, linear and Llama 3's."""
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
    """Long waves are slowed down by a factor, short ones stay, and between the two bounds it goes smoothly."""
    factor, low, high = (float(rope[name]) for name in ("factor", "low_freq_factor", "high_freq_factor"))
    context = float(rope["original_max_position_embeddings"])
    waves = 2 * math.pi / frequencies
    smooth = np.clip((context / waves - low) / (high - low), 0, 1)
    return ((1 - smooth) * frequencies / factor + smooth * frequencies).astype(np.float32)


def read_config(hf: HuggingFaceFolder) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(hf.config.read_bytes())
    return config


def load_model(hf: HuggingFaceFolder, n_pages: int, n_threads: int) -> Decoder:
    """The model of a folder. Raises Unsupported, OSError, MemoryError and KeyError for a tensor that is missing."""
    config = read_config(hf)
    shape = shape_of(config, n_pages)
    angles = np.outer(np.arange(shape.context, dtype=np.float32), _inverse_frequencies(config, shape.head_dim))
    decoder = Decoder(shape, np.cos(angles, dtype=np.float32), np.sin(angles, dtype=np.float32), n_threads)
    tensors = read_tensors(hf.weights)
    try:
        for layer in range(shape.n_layers):
            _set_layer(decoder, layer, tensors)
        embedding = tensors["model.embed_tokens.weight"]
        head = embedding if config.get("tie_word_embeddings") else tensors["lm_head.weight"]
        if head.format is not embedding.format:
            raise Unsupported("its embedding and its output differ in format")
        norm = tensors["model.norm.weight"].floats()
        decoder.set_embedding(embedding.format, embedding.values, norm, head.values)
    except BaseException:
        decoder.close()
        raise
    return decoder


def _set_layer(decoder: Decoder, layer: int, tensors: Mapping[str, Tensor]) -> None:
    prefix = f"model.layers.{layer}."
    formats = set()
    for name, module in _MODULES.items():
        weights = tensors[f"{prefix}{name}.weight"]
        formats.add(weights.format)
        decoder.set_matrix(layer, module, weights.format, weights.values)
        if bias := tensors.get(f"{prefix}{name}.bias"):
            decoder.set_bias(layer, module, bias.floats())
    if len(formats) > 1:
        raise Unsupported("its matrices differ in format")
    for name, norm in _NORMS.items():
        if weight := tensors.get(f"{prefix}{name}.weight"):
            decoder.set_norm(layer, norm, weight.floats())


def load_adapter(decoder: Decoder, folder: CheckpointFolder) -> int:
    """A LoRA adapter in PEFT's layout. Raises Unavailable for one that this engine cannot apply."""
    config = json.loads(folder.adapter_config.read_bytes())
    if config.get("use_dora") or config.get("bias", "none") != "none" or config.get("modules_to_save"):
        raise _not_supported("parts beyond LoRA matrices, which no engine applies")
    tensors = read_tensors(folder.adapter_weights)
    adapter = decoder.add_adapter()
    used = 0
    for layer in range(decoder.shape.n_layers):
        for name, module in _MODULES.items():
            prefix = f"{_ADAPTER_PREFIX}model.layers.{layer}.{name}."
            if f"{prefix}lora_A.weight" not in tensors:
                continue
            a, b = (tensors[f"{prefix}lora_{half}.weight"].floats() for half in "AB")
            rank = a.shape[0]
            scale = float(config["lora_alpha"]) / (math.sqrt(rank) if config.get("use_rslora") else rank)
            decoder.set_low_rank(adapter, layer, module, scale, a, b)
            used += 2
    if used != len(tensors):
        decoder.remove_adapter(adapter)
        raise _not_supported("matrices for modules that this engine does not know")
    return adapter


def _not_supported(parts: str) -> Unavailable:
    return Unavailable("adapter_not_supported", f"The adapter has {parts}.")


def pages_for(tokens: int) -> int:
    return -(-tokens // PAGE)


def hf_folder(base_folder: Path) -> HuggingFaceFolder:
    """The Hugging Face layout of what is served: a prepared base model, or a checkpoint with all weights."""
    hf = BaseModelFolder(base_folder).hf
    return hf if hf.path.exists() else CheckpointFolder(base_folder).hf
