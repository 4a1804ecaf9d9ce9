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
from gguf import GGMLQuantizationType

from luthier.atomic_io import disk_full_as_no_space, fsync_path
from luthier.core.errors import LuthierError, Unsupported
from luthier.engines.gguf import architecture as architectures
from luthier.engines.gguf import gguf_tokenizer, safetensors_file
from luthier.engines.gguf.architecture import Architecture
from luthier.engines.gguf.safetensors_file import FloatArray, Tensor
from luthier.model_folder import BaseModelFolder, CheckpointFolder

_FILE_TYPES = {
    GGMLQuantizationType.F16: gguf.LlamaFileType.MOSTLY_F16,
    GGMLQuantizationType.BF16: gguf.LlamaFileType.MOSTLY_BF16,
    GGMLQuantizationType.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
}
_IN_BYTES = frozenset({GGMLQuantizationType.BF16, GGMLQuantizationType.Q8_0})
_LARGEST_F16 = 65504.0
LORA_KEY = re.compile(r"base_model\.model\.(.+)\.lora_(A|B)\.weight")
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
    return write_model(base.gguf, hf, safetensors_file.weights_of(hf))


def write_model(
    target: Path,
    hf: Path,
    weights: Mapping[str, Tensor],
    matrices: GGMLQuantizationType = GGMLQuantizationType.F16,
    name: str | None = None,
) -> Path:
    """Writes these weights with the configuration, tokenizer and chat template of `hf`, atomically; returns `target`.

    `matrices` is the type of all matrices, F16, BF16 or Q8_0; one whose rows are no whole blocks of Q8_0 is F16. `name`
    goes into the metadata. Raises as `export_base`.
    """
    architecture = architectures.read_architecture(hf)
    tensors = dict(_base_tensors(architecture, weights))
    writer = gguf.GGUFWriter(path=None, arch=architecture.name)
    writer.add_type("model")
    if name is not None:
        writer.add_name(name)
    writer.add_file_type(_FILE_TYPES[matrices])
    _add_shape(writer, architecture)
    gguf_tokenizer.add_tokenizer(writer, hf, architecture.vocabulary)
    for tensor_name, tensor in tensors.items():
        kind = _stored_as(tensor.shape, matrices)
        shape = gguf.quant_shape_to_byte_shape(tensor.shape, kind) if kind in _IN_BYTES else tensor.shape
        dtype = _numpy_type(kind)
        writer.add_tensor_info(tensor_name, shape, dtype, math.prod(shape) * dtype.itemsize, raw_dtype=kind)
    divisors = architectures.rope_divisors(architecture)
    if divisors is not None:
        writer.add_tensor_info("rope_freqs.weight", divisors.shape, divisors.dtype, divisors.nbytes)
    with atomic_file(writer, target):
        writer.write_ti_data_to_file()
        for tensor_name, tensor in tensors.items():
            # One tensor at a time: a 7B base would not fit in memory twice.
            values = architectures.served_values(architecture, tensor_name.rpartition(".")[0], tensor.read())
            writer.write_tensor_data(narrow(tensor_name, values, _stored_as(tensor.shape, matrices)))
        if divisors is not None:
            writer.write_tensor_data(divisors)
    return target


def export_adapter(
    adapter_folder: Path,
    base_folder: Path,
    target: Path | None = None,
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
) -> Path:
    """Writes a PEFT LoRA as GGUF, atomically: to `target`, or to adapter.gguf beside the adapter. Returns the path.

    Values are F32, as they were trained, or F16. Raises Unsupported for kinds of adapters that a GGUF LoRA cannot
    express, InvalidRequest for weights that are missing or damaged.
    """
    adapter = CheckpointFolder(adapter_folder)
    config = json.loads(adapter.adapter_config.read_bytes())
    check_adapter(config)
    architecture = architectures.read_architecture(BaseModelFolder(base_folder).hf.path)
    target = target or adapter.adapter_gguf
    writer = gguf.GGUFWriter(path=None, arch=architecture.name)
    writer.add_type("adapter")
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    # llama.cpp multiplies by alpha / rank; PEFT's rslora by alpha / sqrt(rank).
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, lora_scale(config) * config["r"])
    for tensor in safetensors_file.tensors_of(adapter.adapter_weights):
        key = LORA_KEY.fullmatch(tensor.name)
        module = architectures.gguf_module(architecture.name, key[1]) if key else None
        if key is None or module is None or module in ("token_embd", "output"):
            raise _unsupported(f"weights for {tensor.name}")
        values = tensor.read()
        if key[2] == "B":
            values = architectures.served_values(architecture, module, values)
        writer.add_tensor(f"{module}.weight.lora_{key[2].lower()}", narrow(tensor.name, values, kind))
    with atomic_file(writer, target):
        writer.write_tensors_to_file()
    return target


def lora_scale(config: Mapping[str, Any]) -> float:
    """What B A is multiplied by: alpha / rank, or alpha / sqrt(rank) for rsLoRA; `config` is adapter_config.json."""
    rank = config["r"]
    return float(config["lora_alpha"] / (math.sqrt(rank) if config.get("use_rslora") else rank))


def _add_shape(writer: gguf.GGUFWriter, architecture: Architecture) -> None:
    """Adds the model's sizes, RoPE parameters and sliding windows to the file's metadata."""
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


def _base_tensors(architecture: Architecture, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
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


def _stored_as(shape: tuple[int, ...], matrices: GGMLQuantizationType) -> GGMLQuantizationType:
    """The type of a tensor: F32 for vectors (norms and biases), `matrices` or F16 for all else."""
    if len(shape) == 1:
        return GGMLQuantizationType.F32
    block, _ = gguf.GGML_QUANT_SIZES[matrices]
    return GGMLQuantizationType.F16 if shape[-1] % block else matrices


def _numpy_type(kind: GGMLQuantizationType) -> np.dtype[Any]:
    """How numpy holds the stored numbers: bytes for the types that it does not know."""
    if kind in _IN_BYTES:
        return np.dtype(np.uint8)
    return np.dtype(np.float32 if kind is GGMLQuantizationType.F32 else np.float16)


def narrow(name: str, values: FloatArray, kind: GGMLQuantizationType) -> npt.NDArray[Any]:
    """The values as they are stored, rounded once. Raises Unsupported if one is NaN, or too large for the type."""
    largest = 127 * _LARGEST_F16 if kind is GGMLQuantizationType.Q8_0 else _LARGEST_F16
    with np.errstate(over="ignore"):
        narrow: npt.NDArray[Any] = gguf.quantize(np.ascontiguousarray(values), kind)
    is_wide = kind in (GGMLQuantizationType.F32, GGMLQuantizationType.BF16)
    if not np.isfinite(values).all() or (not is_wide and np.abs(values).max(initial=0.0) > largest):
        raise Unsupported(
            "unsupported_weights",
            f"Tensor {name} has values beyond 65504 (the largest in f16) or NaN: it cannot be served as f16.",
        )
    return narrow


def check_adapter(config: Mapping[str, Any]) -> None:
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
