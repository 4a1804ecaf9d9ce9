"""config.json and its like: which models are accepted, within which limits, and which keys are dropped.

transformers follows many words of these files to other files, other repositories or code; docs/base-models.md lists
them. What is left out here no library ever sees. Pure: `path` is named in messages and never opened.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luthier.core.errors import InvalidRequest, Unsupported
from luthier.model_source.bounded_json import damaged, whole_number

MODEL_TYPES = frozenset(("llama", "mistral", "qwen2", "qwen3", "gemma3_text", "phi3"))
"""Those whose decoder can be trained and served here, and whose classes read no file beside the weights."""
_TOKENIZER_CLASSES_WORDS = (
    "PreTrainedTokenizer PreTrainedTokenizerFast TokenizersBackend LlamaTokenizer LlamaTokenizerFast "
    "GPT2Tokenizer GPT2TokenizerFast Qwen2Tokenizer Qwen2TokenizerFast GemmaTokenizer GemmaTokenizerFast"
)
TOKENIZER_CLASSES = frozenset(_TOKENIZER_CLASSES_WORDS.split())
MAX_WIDTH = 262_144
MAX_LAYERS = 1024
MAX_VOCABULARY = 4_194_304

_BOUNDS = {
    "vocab_size": (1, MAX_VOCABULARY),
    "hidden_size": (1, MAX_WIDTH),
    "intermediate_size": (1, 4 * MAX_WIDTH),
    "num_hidden_layers": (1, MAX_LAYERS),
    "num_attention_heads": (1, 4096),
    "num_key_value_heads": (1, 4096),
    "head_dim": (1, 4096),
    "max_position_embeddings": (1, 2**27),
    "sliding_window": (1, 2**27),
}
_NEEDED = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_DROPPED_KEY_NAMES = (
    "_name_or_path name_or_path base_model_name_or_path transformers_weights _commit_hash _attn_implementation "
    "attn_implementation _attn_implementation_internal _experts_implementation experts_implementation "
    "custom_pipelines trust_remote_code subfolder variant weights_only gguf_file kernel_config use_kernels "
    "fusion_config pickled distributed_config tp_plan device_map processor_class use_fast from_slow backend "
    "tokenizer_type"
)
_DROPPED_KEYS = frozenset(_DROPPED_KEY_NAMES.split())
"""Words that lead a library to another file, another repository, or another way of computing."""


def clean_config(config: Mapping[str, Any], path: Path, kinds: frozenset[str] = MODEL_TYPES) -> dict[str, Any]:
    """A copy of config.json without words that lead elsewhere; its model_type must be one of `kinds`.

    Raises InvalidRequest for values that are missing, out of bounds or lead elsewhere, Unsupported for a model that is
    valid and of a kind that cannot be used.
    """
    _refuse_code(config, path)
    kind = config.get("model_type")
    if kind not in kinds:
        supported = ", ".join(sorted(kinds))
        raise Unsupported(
            "unsupported_model", f"{path} names model_type {kind!r:.60}; those that can be used: {supported}."
        )
    if config.get("quantization_config") or config.get("compression_config"):
        raise Unsupported(
            "quantized_weights",
            f"{path} says that the weights are quantized; name the model's own weights in bf16, f16 or f32, or a GGUF.",
        )
    weights = config.get("transformers_weights")
    if weights not in (None, "model.safetensors", "model.safetensors.index.json"):
        raise InvalidRequest("weights_elsewhere", f"{path} has the weights in {weights!r:.80}, which is never opened.")
    for name, (least, most) in _BOUNDS.items():
        if whole_number(dict(config), name, path, least, most) is None and name in _NEEDED:
            raise damaged(path, f"says no {name}")
    for name in config:
        if name.endswith("_config") and name != "quantization_config":
            raise Unsupported("unsupported_model", f"{path} has a {name:.60}: models of parts cannot be used.")
    return _without_references(config)


def clean_tokenizer_config(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A copy of tokenizer_config.json without words that lead elsewhere. Raises InvalidRequest or Unsupported."""
    _refuse_code(config, path)
    kind = config.get("tokenizer_class")
    if kind is not None and kind not in TOKENIZER_CLASSES:
        supported = ", ".join(sorted(TOKENIZER_CLASSES))
        raise Unsupported("unsupported_tokenizer", f"{path} names tokenizer_class {kind!r:.60}; known are {supported}.")
    return _without_references(config)


def count_parameters(config: Mapping[str, Any]) -> int:
    """How many weights a model of this shape has in its large matrices, embedding included; norms are left out.

    A separate output head counts as none, so it is a lower bound.
    """
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    head = config.get("head_dim") or max(1, hidden // heads)
    attention = 2 * hidden * heads * head + 2 * hidden * kv_heads * head
    layer = attention + 3 * hidden * config["intermediate_size"]
    return int(config["vocab_size"] * hidden + config["num_hidden_layers"] * layer)


def refuse_shape_without_weights(config: Mapping[str, Any], n_weights: int, path: Path) -> None:
    """Raises InvalidRequest for a shape with more weights than the files hold: memory is allocated by the shape."""
    n_configured = count_parameters(config)
    if n_configured > n_weights:
        raise damaged(path, f"describes a model of {n_configured:,} weights or more; its files hold {n_weights:,}")


def refuse_too_large(n_weights: int, path: Path, memory_bytes: int) -> None:
    """Raises Unsupported for weights that in bf16, two bytes each, are more than the machine's memory."""
    if 2 * n_weights > memory_bytes:
        raise Unsupported(
            "too_little_memory",
            f"{path} has {n_weights:,} weights: {2 * n_weights / 1e9:.1f} GB as bf16, of {memory_bytes / 1e9:.1f} GB "
            "of memory. Use a machine with more, or a smaller model.",
        )


def _refuse_code(config: Mapping[str, Any], path: Path) -> None:
    """Raises InvalidRequest for a configuration that names code of its own."""
    if "auto_map" in config or "custom_pipelines" in config:
        raise InvalidRequest("remote_code", f"{path} asks to run code of its own (auto_map): refused.")


def _without_references(config: Mapping[str, Any]) -> dict[str, Any]:
    """A copy without the keys, at the top level, by which a library would look elsewhere."""
    return {
        name: value
        for name, value in config.items()
        if name not in _DROPPED_KEYS and not name.endswith(("_file", "_files", "_path"))
    }
