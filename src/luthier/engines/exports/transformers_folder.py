"""The files around the weights that transformers and peft load: configuration, tokenizer, sampling defaults, adapter.

Written so that older versions read them alike: transformers 4 knows neither `rope_parameters` nor the tokenizer class
of transformers 5, and takes defaults of its own for what it does not find.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from luthier.core.exports import ExportDtype
from luthier.model_folder import CheckpointFolder, HuggingFaceFolder

SAMPLING: dict[str, object] = {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0}
"""What a request without sampling fields gets here; transformers would take the 50 likeliest tokens only."""
_LOCAL_KEYS = ("is_local", "local_files_only", "backend", "name_or_path")
_DTYPES = {ExportDtype.BF16: "bfloat16", ExportDtype.F16: "float16"}


def write_tokenizer(source: HuggingFaceFolder, target: Path) -> None:
    """Writes tokenizer, its configuration and the chat template of `source` into `target`. Raises OSError."""
    files = HuggingFaceFolder(target)
    shutil.copyfile(source.tokenizer, files.tokenizer)
    if source.chat_template.exists():
        shutil.copyfile(source.chat_template, files.chat_template)
    config = json.loads(source.tokenizer_config.read_bytes())
    for key in _LOCAL_KEYS:
        config.pop(key, None)
    # The class that reads tokenizer.json as it is, in all versions.
    _write(files.tokenizer_config, config | {"tokenizer_class": "PreTrainedTokenizerFast"})


def write_model_config(source: HuggingFaceFolder, target: Path, dtype: ExportDtype) -> None:
    """Writes config.json for weights in `dtype`, and generation_config.json with our sampling. Raises OSError."""
    files = HuggingFaceFolder(target)
    config = json.loads(source.config.read_bytes())
    config.pop("_name_or_path", None)
    config.pop("_model_name_or_path", None)
    _write(files.config, config | _older_rope(config) | {"dtype": _DTYPES[dtype], "torch_dtype": _DTYPES[dtype]})
    generation = json.loads(source.generation_config.read_bytes()) if source.generation_config.exists() else {}
    kept = {key: value for key, value in generation.items() if key.endswith("_token_id")}
    _write(files.generation_config, kept | SAMPLING)


def write_adapter(source: CheckpointFolder, target: Path, base_repository: str) -> None:
    """Writes the adapter's weights as they are, and its configuration, which names the base. Raises OSError."""
    files = CheckpointFolder(target)
    shutil.copyfile(source.adapter_weights, files.adapter_weights)
    config = json.loads(source.adapter_config.read_bytes())
    _write(files.adapter_config, config | {"base_model_name_or_path": base_repository, "inference_mode": True})


def _older_rope(config: Mapping[str, Any]) -> dict[str, object]:
    """The RoPE parameters as transformers 4 reads them; empty if they are in that form only."""
    rope: Mapping[str, Any] | None = config.get("rope_parameters")
    if not rope:
        return {}
    full, local = rope.get("full_attention", rope), rope.get("sliding_attention")
    older: dict[str, object] = {"rope_theta": full["rope_theta"]}
    if "partial_rotary_factor" in full:
        older["partial_rotary_factor"] = full["partial_rotary_factor"]
    scaling = {key: value for key, value in full.items() if key not in ("rope_theta", "partial_rotary_factor")}
    older["rope_scaling"] = None if scaling.get("rope_type", "default") == "default" else scaling
    if local is not None:
        older["rope_local_base_freq"] = local["rope_theta"]
    return older


def _write(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")
