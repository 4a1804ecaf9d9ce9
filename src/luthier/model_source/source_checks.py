"""From a source of weights to a folder that libraries may open: only files that were checked, and only what they need.

Weights are opened from *.safetensors and *.gguf inside the source alone, by their real path; nothing else in a source
is ever opened, whatever its other files name. Nothing is written to the source.

`refuse_foreign_files` is the same guard for folders that we have written ourselves, before the trainer opens one.
"""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from luthier.core.errors import InvalidRequest, NoSpace, Unsupported
from luthier.model_folder import (
    ADAPTER_CONFIG,
    CHAT_TEMPLATE,
    CONFIG,
    GENERATION_CONFIG,
    TOKENIZER,
    TOKENIZER_CONFIG,
    WEIGHTS,
    WEIGHTS_INDEX,
)
from luthier.model_source import (
    bounded_json,
    configuration,
    gguf_header,
    safetensors_header,
    tokenizer_rules,
    trial_load,
)
from luthier.model_source.bounded_json import damaged

MAX_TEMPLATE_BYTES = 1024**2
GGUF_ARCHITECTURES = frozenset(("llama", "qwen2", "qwen3", "gemma3", "phi3"))
_OTHER_FILES = (GENERATION_CONFIG, "special_tokens_map.json", "added_tokens.json")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.h5", "*.msgpack")


def admit(source: Path, staging: Path, template: Path | None = None) -> Path:
    """Makes the folder `staging` from a source; returns what libraries may open: that folder, or a GGUF file in it.

    Weights are links to the source. `template` is a chat template in place of the source's own. Raises LuthierError
    with a sentence that names the file, what is wrong with it and what to do; then `staging` is left half filled.
    """
    staging.mkdir(parents=True)
    if source.is_file() and source.suffix == ".gguf":
        admitted = _admit_gguf(source, staging)
    elif source.is_dir():
        admitted = _admit_folder(source, staging)
    else:
        raise InvalidRequest("unknown_source", f"{source} is neither a .gguf file nor a folder with safetensors.")
    if template is not None:
        (staging / CHAT_TEMPLATE).write_bytes(_template_bytes(template))
    trial_load.check_loadable(staging, source)
    return admitted


def _admit_gguf(source: Path, staging: Path) -> Path:
    """Checks a GGUF file's header; writes its chat template and a link to it into `staging`, and returns the link.

    Raises InvalidRequest, Unsupported for an architecture that cannot be used or too little memory, and NoSpace.
    """
    path = resolve_inside(source.parent, source.name)
    header = gguf_header.read(path)
    name = header.metadata.get("general.architecture")
    if name not in GGUF_ARCHITECTURES:
        known = ", ".join(sorted(GGUF_ARCHITECTURES))
        raise Unsupported(
            "unsupported_model", f"{source} is of architecture {name!r:.60}; those that can be used: {known}."
        )
    shape = {
        "vocab_size": header.lengths.get("tokenizer.ggml.tokens"),
        "hidden_size": header.metadata.get(f"{name}.embedding_length"),
        "intermediate_size": header.metadata.get(f"{name}.feed_forward_length"),
        "num_hidden_layers": header.metadata.get(f"{name}.block_count"),
        "num_attention_heads": header.metadata.get(f"{name}.attention.head_count"),
        # As an array, one for each layer, it says no more than that there is one.
        "num_key_value_heads": header.metadata.get(f"{name}.attention.head_count_kv", 1),
        "head_dim": header.metadata.get(f"{name}.attention.key_length"),
        "model_type": "llama",
    }
    # Its tokens may be fewer than the rows of its embeddings, never more.
    configuration.clean_config(shape, source)
    _refuse_size(shape, sum(header.elements.values()), source, staging)
    template = header.metadata.get("tokenizer.chat_template")
    if isinstance(template, str):
        (staging / CHAT_TEMPLATE).write_text(template, "utf-8", newline="")
    link = staging / source.name
    link.symlink_to(path)
    return link


def _admit_folder(source: Path, staging: Path) -> Path:
    """Checks a Hugging Face folder and writes cleaned JSON files and links to the weights into `staging`.

    Only headers of weights are read. Raises InvalidRequest, Unsupported and NoSpace.
    """
    path = source / CONFIG
    if not path.is_file():
        raise InvalidRequest("unknown_source", f"{source} has no config.json.")
    config = configuration.clean_config(bounded_json.read_object(resolve_inside(source, CONFIG)), path)
    files = list(weight_files(source))
    held = [(file, tensor) for file in files for tensor in safetensors_header.read(resolve_inside(source, file))]
    tensors = [tensor for _, tensor in held]
    if others := sorted({tensor.dtype for tensor in tensors} - safetensors_header.FLOATS):
        raise Unsupported("unsupported_weights", f"{source} has weights in {', '.join(others)}; floats can be used.")
    _refuse_size(config, sum(tensor.elements for tensor in tensors), source, staging)
    _write(staging / CONFIG, config)
    # Shards get names and an index of ours: by a name alone some folders are read in another way.
    links = (
        {file: f"model-{n:05}.safetensors" for n, file in enumerate(files, 1)}
        if files != [WEIGHTS]
        else {WEIGHTS: WEIGHTS}
    )
    for file, link in links.items():
        (staging / link).symlink_to(resolve_inside(source, file))
    if files != [WEIGHTS]:
        _write(
            staging / WEIGHTS_INDEX, {"metadata": {}, "weight_map": {tensor.name: links[file] for file, tensor in held}}
        )
    (staging / TOKENIZER).write_bytes(tokenizer_rules.read(resolve_inside(source, TOKENIZER)))
    tokenizer_config = _tokenizer_config(source, staging)
    _write(staging / TOKENIZER_CONFIG, tokenizer_config)
    for file in _OTHER_FILES:
        if (source / file).exists():
            _write(staging / file, bounded_json.read_object(resolve_inside(source, file)))
    return staging


def resolve_inside(folder: Path, name: str) -> Path:
    """The real path of a folder's file, links followed. Raises InvalidRequest for one that lies elsewhere.

    The file need not exist.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InvalidRequest(
            "file_outside",
            f"{folder / name} leads out of its folder, and is not opened. Copy the file into the folder.",
        )
    return path


def weight_files(source: Path) -> Iterator[str]:
    """Names of a folder's weight files: model.safetensors, else the shards that the index names, sorted.

    Raises InvalidRequest where there are none that may be opened, such as pickled ones.
    """
    if (source / WEIGHTS).exists():
        yield WEIGHTS
        return
    if not (source / WEIGHTS_INDEX).exists():
        pickled = any(path for pattern in _PICKLES for path in source.glob(pattern))
        others = sorted(path.name for path in source.glob("*.safetensors"))
        reason = "only pickled weights, which can run code" if pickled and not others else f"no {WEIGHTS}"
        has = f" (it has {', '.join(others)[:200]})" if others else ""
        raise InvalidRequest("no_safetensors", f"{source} has {reason}{has}; safetensors are needed.")
    path = source / WEIGHTS_INDEX
    owners = bounded_json.read_object(resolve_inside(source, WEIGHTS_INDEX), 64 * 1024**2).get("weight_map")
    if not isinstance(owners, dict) or not owners:
        raise damaged(path, "has no weight_map")
    for name in sorted({str(owner) for owner in owners.values()}):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise InvalidRequest(
                "weights_elsewhere", f"{path} has weights in {name!r:.80}: only .safetensors beside it are opened."
            )
        yield name


def refuse_foreign_files(folder: Path) -> None:
    """Refuses the `hf/` folder of a base or fully tuned model if something was put in that leads a library elsewhere.

    Such are an adapter, other weights than `model.safetensors`, and settings that name code or files; a damaged header
    of the weights too. Only reads. Raises InvalidRequest that names it. Missing files are for others to miss.
    """
    ways_out = {ADAPTER_CONFIG, WEIGHTS_INDEX} | {path.name for path in folder.glob("*.safetensors")} - {WEIGHTS}
    if (strange := next((name for name in sorted(ways_out) if (folder / name).exists()), None)) is not None:
        raise InvalidRequest("strange_file", f"{folder} has a file that Luthier did not write, {strange}: remove it.")
    if (folder / CONFIG).exists():
        config = bounded_json.read_object(resolve_inside(folder, CONFIG))
        if found := sorted({"auto_map", "transformers_weights", "quantization_config"} & config.keys()):
            raise InvalidRequest(
                "strange_file", f"{folder / 'config.json'} has {found[0]}, which Luthier does not write. Pull it again."
            )
    if (folder / WEIGHTS).exists():
        safetensors_header.read(resolve_inside(folder, WEIGHTS))


def _tokenizer_config(source: Path, staging: Path) -> dict[str, Any]:
    """tokenizer_config.json, cleaned and without its chat template, which is written to a file of its own in `staging`.

    Empty if the source has no such file. Raises InvalidRequest or Unsupported.
    """
    path = source / TOKENIZER_CONFIG
    config: dict[str, Any] = {}
    if path.exists():
        read = bounded_json.read_object(resolve_inside(source, path.name))
        config = configuration.clean_tokenizer_config(read, path)
    template = config.pop("chat_template", None)
    if isinstance(template, list):  # several by name, of which an engine reads one
        named = {one.get("name"): one.get("template") for one in template if isinstance(one, dict)}
        template = named.get("default")
    if (source / CHAT_TEMPLATE).exists():
        (staging / CHAT_TEMPLATE).write_bytes(_template_bytes(resolve_inside(source, CHAT_TEMPLATE)))
    elif isinstance(template, str):
        (staging / CHAT_TEMPLATE).write_bytes(template.encode("utf-8", "surrogatepass"))
    elif template is not None:
        raise damaged(path, "has a chat_template that is no text")
    return config


def _template_bytes(path: Path) -> bytes:
    """A chat template's bytes. Raises InvalidRequest for one that is too long or not UTF-8."""
    size = path.stat().st_size
    if size > MAX_TEMPLATE_BYTES:
        raise damaged(path, f"is {size:,} bytes long; of a chat template at most {MAX_TEMPLATE_BYTES:,} are read")
    data = path.read_bytes()
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise damaged(path, f"is not UTF-8 (byte {error.start:,})") from None
    return data


def _refuse_size(shape: dict[str, Any], n_weights: int, source: Path, staging: Path) -> None:
    """Raises InvalidRequest for a shape that the weights do not fill, Unsupported or NoSpace for too large a model."""
    configuration.refuse_shape_without_weights(shape, n_weights, source)
    configuration.refuse_too_large(n_weights, source, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    refuse_full_disk(n_weights, staging)


def refuse_full_disk(n_weights: int, folder: Path) -> None:
    """A base model is stored twice, in bf16 and in f16: four bytes a weight. Raises NoSpace where that does not fit.

    `folder` must exist; the message names its parent.
    """
    needed, free = 4 * n_weights, shutil.disk_usage(folder).free
    if needed > free:
        raise NoSpace(
            "disk_full",
            f"The disk of {folder.parent} is full: the model needs {needed / 1e9:.1f} GB there, for training and for "
            f"serving, and {free / 1e9:.1f} GB are free. Make room, or give LUTHIER_DATA_DIR a larger disk.",
        )


def _write(path: Path, content: dict[str, Any]) -> None:
    """Writes a JSON object as UTF-8."""
    path.write_text(json.dumps(content, ensure_ascii=False), "utf-8")
