"""A model folder in Hugging Face layout as a decoder: every tensor is checked before one is used."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from luthier.engines.native.decoder import model_config, tensors
from luthier.engines.native.decoder.library import PAGE, Decoder, Format, Module, Norm, Shape
from luthier.engines.native.decoder.model_config import Unsupported
from luthier.engines.native.decoder.tensors import Tensor
from luthier.model_folder import HuggingFaceFolder

MODULES = {
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
_IN_HEADS = (Norm.QUERY, Norm.KEY)


@dataclass(frozen=True, slots=True)
class ModelTensors:
    """The tensors of a model, of the right shapes: by layer, and what lies before and behind the layers."""

    layers: list[tuple[dict[Module, Tensor], dict[Module, Tensor], dict[Norm, Tensor]]]
    """Matrices, biases and norms of each layer."""
    embedding: Tensor
    final_norm: Tensor
    head: Tensor


def sizes_of(shape: Shape, module: Module) -> tuple[int, int]:
    """Outputs and inputs of a linear module: the shape of its weight matrix."""
    heads, kv_heads = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
    match module:
        case Module.Q:
            return heads, shape.hidden
        case Module.K | Module.V:
            return kv_heads, shape.hidden
        case Module.O:
            return shape.hidden, heads
        case Module.GATE | Module.UP:
            return shape.intermediate, shape.hidden
        case Module.DOWN:
            return shape.hidden, shape.intermediate


def read_model(hf: HuggingFaceFolder, config: Mapping[str, Any], shape: Shape) -> ModelTensors:
    """Finds and checks all tensors, and reads none of them. Raises OSError, ValueError and Unsupported."""
    found = tensors.read_tensors(hf.weights)
    embedding = tensors.take(found, "model.embed_tokens.weight", shape.vocabulary, shape.hidden)
    is_tied = bool(config.get("tie_word_embeddings"))
    head = embedding if is_tied else tensors.take(found, "lm_head.weight", shape.vocabulary, shape.hidden)
    if head.format is not embedding.format:
        raise Unsupported("its embedding and its output differ in format")
    layers = [_read_layer(found, f"model.layers.{layer}.", shape) for layer in range(shape.n_layers)]
    return ModelTensors(layers, embedding, tensors.take(found, "model.norm.weight", shape.hidden), head)


def _read_layer(
    found: Mapping[str, Tensor], prefix: str, shape: Shape
) -> tuple[dict[Module, Tensor], dict[Module, Tensor], dict[Norm, Tensor]]:
    """A layer's matrices, biases where there are any, and norms.

    Raises Unsupported for what is missing or differs in format.
    """
    matrices, biases, norms = {}, {}, {}
    for name, module in MODULES.items():
        outputs, inputs = sizes_of(shape, module)
        matrices[module] = tensors.take(found, f"{prefix}{name}.weight", outputs, inputs)
        if f"{prefix}{name}.bias" in found:
            biases[module] = tensors.take(found, f"{prefix}{name}.bias", outputs)
    if len({matrix.format for matrix in matrices.values()}) > 1:
        raise Unsupported("its matrices differ in format")
    for name, norm in _NORMS.items():
        if norm in _IN_HEADS and f"{prefix}{name}.weight" not in found:
            continue
        size = shape.head_dim if norm in _IN_HEADS else shape.hidden
        norms[norm] = tensors.take(found, f"{prefix}{name}.weight", size)
    return matrices, biases, norms


def load_model(hf: HuggingFaceFolder, n_pages: int, n_threads: int) -> Decoder:
    """Reads a model's folder into a new decoder with a KV cache of `n_pages`.

    Raises Unsupported, OSError, ValueError, KeyError where a size is missing, and MemoryError.
    """
    config = model_config.read_config(hf)
    shape = model_config.shape_of(config, n_pages)
    model = read_model(hf, config, shape)
    frequencies = model_config.inverse_frequencies(config, shape.head_dim)
    angles = np.outer(np.arange(shape.context, dtype=np.float32), frequencies)
    decoder = Decoder(shape, np.cos(angles, dtype=np.float32), np.sin(angles, dtype=np.float32), n_threads)
    for layer, (matrices, biases, norms) in enumerate(model.layers):
        for module, matrix in matrices.items():
            decoder.set_matrix(layer, module, matrix.format, matrix.values)
        for module, bias in biases.items():
            decoder.set_bias(layer, module, bias.floats())
        for norm, weight in norms.items():
            decoder.set_norm(layer, norm, weight.floats())
    embedding: Format = model.embedding.format
    decoder.set_embedding(embedding, model.embedding.values, model.final_norm.floats(), model.head.values)
    return decoder


def pages_for(tokens: int) -> int:
    """Pages of the KV cache that so many tokens need, rounded up."""
    return -(-tokens // PAGE)
