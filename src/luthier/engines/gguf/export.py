"""Exports to GGUF, the files that llama.cpp serves: a base folder as base-f16.gguf, an adapter as adapter.gguf.

`python -m luthier.engines.gguf.export FOLDER` writes FOLDER/base-f16.gguf from FOLDER/hf, for `luthier models pull`; an
engine process of llama.cpp exports its adapters as it starts.
"""

import json
import math
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from luthier.atomic_io import disk_full_as_no_space, fsync_path
from luthier.core.errors import LuthierError, Unsupported
from luthier.engines.gguf import architecture as architectures
from luthier.engines.gguf import gguf_tokenizer, safetensors_file
from luthier.engines.gguf.architecture import Architecture
from luthier.engines.gguf.safetensors_file import FloatArray, StoredTensor
from luthier.model_folder import BaseModelFolder, CheckpointFolder

_LORA_KEY = re.compile(r"base_model\.model\.(.+)\.lora_(A|B)\.weight")
_UNSUPPORTED_SETTINGS = (
    "use_dora",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "fan_in_fan_out",
    "lora_bias",
    "layer_replication",
    "trainable_token_indices",
    "target_parameters",
    "use_qalora",
    "use_bdlora",
)
"""Settings of PEFT's LoraConfig that change what the adapter computes, beyond B A alpha / r."""


def export_base(base_folder: Path) -> Path:
    """Writes base-f16.gguf from the folder's weights, atomically, and returns its path.

    They are in its hf/, or in the folder itself for a model of a full fine-tuning. bf16 weights from 2**-14 up to 65504
    are exact in f16; smaller ones have an error of at most 2**-25. Norms and biases stay float32. Raises Unsupported
    for a model that llama.cpp cannot serve from our files, and InvalidRequest for weights that are missing or damaged.
    """
    base = BaseModelFolder(base_folder)
    hf = base.hf.path if base.hf.path.exists() else base_folder
    architecture = architectures.read_architecture(hf)
    tensors = dict(_base_tensors(architecture, safetensors_file.weights_of(hf)))
    target = base.gguf
    writer = gguf.GGUFWriter(path=None, arch=architecture.name)
    writer.add_type("model")
    _add_shape(writer, architecture)
    gguf_tokenizer.add_tokenizer(writer, hf, architecture.vocabulary)
    for name, tensor in tensors.items():
        dtype = _base_dtype(tensor)
        writer.add_tensor_info(name, tensor.shape, dtype, math.prod(tensor.shape) * dtype.itemsize)
    divisors = architectures.rope_divisors(architecture)
    if divisors is not None:
        writer.add_tensor_info("rope_freqs.weight", divisors.shape, divisors.dtype, divisors.nbytes)
    with atomic_file(writer, target):
        writer.write_ti_data_to_file()
        for name, tensor in tensors.items():
            # One tensor at a time: a 7B base would not fit in memory twice.
            values = architectures.served_values(architecture, name.rpartition(".")[0], tensor.read())
            writer.write_tensor_data(narrow(name, values, _base_dtype(tensor)))
        if divisors is not None:
            writer.write_tensor_data(divisors)
    return target


def export_adapter(adapter_folder: Path, base_folder: Path, target: Path | None = None) -> Path:
    """Writes a PEFT LoRA as GGUF, atomically: to `target`, or to adapter.gguf beside the adapter. Returns the path.

    Values stay float32. Raises Unsupported for kinds of adapters that a GGUF LoRA cannot express, InvalidRequest for
    weights that are missing or damaged.
    """
    adapter = CheckpointFolder(adapter_folder)
    config = json.loads(adapter.adapter_config.read_bytes())
    _check_adapter(config)
    architecture = architectures.read_architecture(BaseModelFolder(base_folder).hf.path)
    target = target or adapter.adapter_gguf
    writer = gguf.GGUFWriter(path=None, arch=architecture.name)
    writer.add_type("adapter")
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    # llama.cpp multiplies by alpha / rank; PEFT's rslora by alpha / sqrt(rank).
    rank = config["r"]
    alpha = config["lora_alpha"] * (math.sqrt(rank) if config.get("use_rslora") else 1.0)
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    for tensor in safetensors_file.tensors_of(adapter.adapter_weights):
        key = _LORA_KEY.fullmatch(tensor.name)
        module = architectures.gguf_module(architecture.name, key[1]) if key else None
        if key is None or module is None or module in ("token_embd", "output"):
            raise _unsupported(f"weights for {tensor.name}")
        values = tensor.read()
        if key[2] == "B":
            values = architectures.served_values(architecture, module, values)
        writer.add_tensor(f"{module}.weight.lora_{key[2].lower()}", values)
    with atomic_file(writer, target):
        writer.write_tensors_to_file()
    return target


def _add_shape(writer: gguf.GGUFWriter, architecture: Architecture) -> None:
    """Adds the model's sizes, RoPE parameters and sliding windows to the file's metadata."""
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_block_count(architecture.layers)
    writer.add_context_length(architecture.context_tokens)
    writer.add_embedding_length(architecture.hidden)
    writer.add_feed_forward_length(architecture.feed_forward)
    writer.add_head_count(architecture.heads)
    writer.add_head_count_kv(architecture.kv_heads)
    writer.add_key_length(architecture.head_dim)
    writer.add_value_length(architecture.head_dim)
    writer.add_layer_norm_rms_eps(architecture.norm_epsilon)
    writer.add_vocab_size(architecture.vocabulary)
    writer.add_rope_dimension_count(architecture.rotary_dim)
    writer.add_rope_freq_base(architecture.rope_theta)
    if (windows := architecture.windows) is not None:
        writer.add_sliding_window(windows.tokens)
        writer.add_sliding_window_pattern(windows.period)
        writer.add_rope_freq_base_swa(windows.rope_theta)
    scaling = architecture.rope_scaling
    if scaling.get("rope_type", scaling.get("type")) == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling["factor"])


def _base_tensors(
    architecture: Architecture, weights: Mapping[str, StoredTensor]
) -> Iterator[tuple[str, StoredTensor]]:
    """The stored tensors by their names in GGUF; RoPE frequencies and a tied output matrix are left out.

    Raises Unsupported for a tensor that has no place in the file.
    """
    for name, tensor in weights.items():
        module, _, kind = name.rpartition(".")
        if name.endswith("rotary_emb.inv_freq") or (name == "lm_head.weight" and architecture.tied_embeddings):
            continue
        gguf_name = architectures.gguf_module(architecture.name, module)
        if gguf_name is None or kind not in ("weight", "bias"):
            raise Unsupported("unsupported_weights", f"Tensor {name} has no place in a {architecture.name} GGUF file.")
        yield f"{gguf_name}.{kind}", tensor


def _base_dtype(tensor: StoredTensor) -> np.dtype[Any]:
    """float16 for matrices, float32 for vectors (norms and biases)."""
    return np.dtype(np.float16 if len(tensor.shape) > 1 else np.float32)


def narrow(name: str, values: FloatArray, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The values as `dtype`. Raises Unsupported if one is NaN, or too large for it."""
    with np.errstate(over="ignore"):
        narrow = values.astype(dtype)
    if not np.isfinite(narrow).all():
        raise Unsupported(
            "unsupported_weights",
            f"Tensor {name} has values beyond 65504 (the largest in f16) or NaN: it cannot be served as f16.",
        )
    return narrow


def _check_adapter(config: Mapping[str, Any]) -> None:
    """Raises Unsupported for an adapter_config.json of anything but plain LoRA or rsLoRA."""
    if config.get("peft_type") != "LORA":
        raise _unsupported(f"type {config.get('peft_type')}")
    if config.get("bias", "none") != "none":
        raise _unsupported("trained biases")
    for key in _UNSUPPORTED_SETTINGS:
        if config.get(key):
            raise _unsupported(key)


def _unsupported(what: str) -> Unsupported:
    """The error for an adapter with `what`."""
    return Unsupported(
        "unsupported_adapter",
        f"The adapter has {what}, which a GGUF LoRA cannot express. Servable: plain LoRA or rsLoRA on linear modules.",
    )


@contextmanager
def atomic_file(writer: gguf.GGUFWriter, target: Path) -> Iterator[None]:
    """Writes header and metadata, lets the caller write tensors, and gives the file its name once it is on disk.

    An error leaves `target` as it was; the writer is closed in any case.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        writer.write_header_to_file(temporary)
        writer.write_kv_data_to_file()
        yield
        writer.flush()
        for stream in writer.fout:
            os.fsync(stream.fileno())
        temporary.replace(target)
        fsync_path(target.parent)
    finally:
        writer.close()
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    try:
        with disk_full_as_no_space(BaseModelFolder(Path(sys.argv[1]).absolute()).gguf):
            export_base(Path(sys.argv[1]))
    except LuthierError as error:
        sys.exit(error.message)
