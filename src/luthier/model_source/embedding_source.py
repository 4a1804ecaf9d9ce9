"""From a folder with an embedding model to one that libraries may open: a BERT encoder, its tokenizer, its pooling.

The layout is that of sentence-transformers: `modules.json` names the steps, `1_Pooling/config.json` the pooling. What
passes is written anew or linked, as `source_checks` does it for language models; nothing else is ever opened.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.core.errors import InvalidRequest, Unsupported
from luthier.model_folder import CONFIG, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS
from luthier.model_source import (
    bounded_json,
    configuration,
    gguf_header,
    safetensors_header,
    source_checks,
    tokenizer_rules,
    trial_load,
)
from luthier.model_source.bounded_json import damaged, whole_number

MODEL_TYPES = frozenset(("bert",))
GGUF_ARCHITECTURES = frozenset(("bert",))
MODULES = "modules.json"
POOLING = "1_Pooling/config.json"
LIMITS = "sentence_bert_config.json"
FILES = (CONFIG, WEIGHTS, TOKENIZER, TOKENIZER_CONFIG, MODULES, POOLING, LIMITS)
"""All that is ever read of a source."""
_STEPS = ("Transformer", "Pooling", "Normalize")
_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
_INTEGERS = frozenset(("embeddings.position_ids", "bert.embeddings.position_ids"))
"""Tensors of whole numbers that older files store, and no library reads any more."""


@dataclass(frozen=True, slots=True)
class AdmittedEncoder:
    """What may be opened: `folder` has config, weights and tokenizer. `pooling` is "mean" or "cls"; `max_tokens` is
    what the source says of the longest text, special tokens included."""

    folder: Path
    pooling: str
    max_tokens: int


def is_embedding_source(source: Path) -> bool:
    """Whether a fetched folder or GGUF file holds an embedding model. Raises InvalidRequest for a damaged one."""
    if source.is_file():
        return gguf_header.read(source).metadata.get("general.architecture") in GGUF_ARCHITECTURES
    path = source / CONFIG
    return path.is_file() and bounded_json.read_object(path).get("model_type") in MODEL_TYPES


def admit_encoder(source: Path, staging: Path) -> AdmittedEncoder:
    """Makes the folder `staging` of a source folder. Raises LuthierError that names the file at fault."""
    staging.mkdir(parents=True)
    path = source / CONFIG
    if not path.is_file():
        raise InvalidRequest("unknown_source", f"{source} has no config.json.")
    read = bounded_json.read_object(source_checks.resolve_inside(source, CONFIG))
    config = configuration.clean_config(read, path, MODEL_TYPES)
    positions = whole_number(config, "max_position_embeddings", path, 1, 2**27)
    if positions is None:
        raise damaged(path, "says no max_position_embeddings")
    if list(source_checks.weight_files(source)) != [WEIGHTS]:
        raise Unsupported(
            "unsupported_weights", f"{source} has its weights in shards; an embedding model has one file."
        )
    _check_weights(config, source, staging)
    (staging / CONFIG).write_text(json.dumps(config, ensure_ascii=False), "utf-8")
    (staging / WEIGHTS).symlink_to(source_checks.resolve_inside(source, WEIGHTS))
    tokenizer = tokenizer_rules.read_wordpiece(source_checks.resolve_inside(source, TOKENIZER))
    (staging / TOKENIZER).write_bytes(tokenizer)
    _write_tokenizer_config(staging, positions)
    trial_load.check_loadable(staging, source)
    limits = _optional(source, LIMITS)
    most = whole_number(limits, "max_seq_length", source / LIMITS, 3, 2**27)
    return AdmittedEncoder(staging, _pooling(source), min(positions, most or positions))


def _check_weights(config: Mapping[str, Any], source: Path, staging: Path) -> None:
    """Raises InvalidRequest, Unsupported or NoSpace for weights that do not fit the shape, the machine or the disk."""
    tensors = safetensors_header.read(source_checks.resolve_inside(source, WEIGHTS))
    others = {tensor.dtype for tensor in tensors if tensor.name not in _INTEGERS} - safetensors_header.FLOATS
    if others:
        raise Unsupported(
            "unsupported_weights", f"{source} has weights in {', '.join(sorted(others))}; floats can be used."
        )
    held = sum(tensor.elements for tensor in tensors)
    hidden = config["hidden_size"]
    layer = 4 * hidden**2 + 2 * hidden * config["intermediate_size"]
    shaped = config["vocab_size"] * hidden + config["num_hidden_layers"] * layer
    if shaped > held:
        raise damaged(source, f"describes an encoder of {shaped:,} weights or more; its file holds {held:,}")
    configuration.refuse_too_large(2 * held, source, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    source_checks.refuse_full_disk(2 * held, staging)  # float32 and f16: six bytes a weight


def _write_tokenizer_config(staging: Path, positions: int) -> None:
    """Writes a tokenizer_config.json of our own: all that tokenizes is in tokenizer.json."""
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "sep", "pad", "unk", "mask")}
    content = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": positions, **special}
    (staging / TOKENIZER_CONFIG).write_text(json.dumps(content), "utf-8")


def _pooling(source: Path) -> str:
    """The pooling that the source names; the mean if it names none. Raises Unsupported for others and more steps."""
    if (source / MODULES).exists():
        path = source_checks.resolve_inside(source, MODULES)
        steps = bounded_json.parse_object(b'{"steps":' + _bounded_bytes(path) + b"}", path)["steps"]
        kinds = [str(step.get("type")).rpartition(".")[2] for step in steps] if isinstance(steps, list) else []
        if strange := [kind for kind in kinds if kind not in _STEPS]:
            raise Unsupported(
                "unsupported_model",
                f"{path} has the step {strange[0]:.60}; encoders with a pooling, and no step more, can be used.",
            )
    content = _optional(source, POOLING)
    if not content:
        return "mean"
    modes = [name for name, value in content.items() if name.startswith("pooling_mode_") and value is True]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        known = ", ".join(_POOLINGS)
        raise Unsupported(
            "unsupported_model", f"{source / POOLING} has {' and '.join(modes)[:200] or 'no pooling'}; known: {known}."
        )
    return _POOLINGS[modes[0]]


def _optional(source: Path, name: str) -> dict[str, Any]:
    """The object in a file of the source; empty if there is no such file. Raises InvalidRequest."""
    return bounded_json.read_object(source_checks.resolve_inside(source, name)) if (source / name).exists() else {}


def _bounded_bytes(path: Path) -> bytes:
    """The bytes of a configuration file. Raises InvalidRequest for one that is too long."""
    if path.stat().st_size > bounded_json.MAX_CONFIGURATION_BYTES:
        raise damaged(path, f"is longer than {bounded_json.MAX_CONFIGURATION_BYTES:,} bytes")
    return path.read_bytes()
