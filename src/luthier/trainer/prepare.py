"""`python -m luthier.trainer.prepare SOURCE FOLDER --name NAME`: weights from elsewhere -> a base model folder.

`--chat-template FILE` is a template in place of the model's own; `--quantization` rounds the weights for training on
few bits (trainer/quantized.py).

SOURCE is a GGUF file or a folder in Hugging Face layout with safetensors. FOLDER gets hf/ (bf16, what is trained is
what is served) and probes.json. Nothing that could run code is read: no pickle, no code from the model's folder.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from luthier.core.errors import InvalidRequest, LuthierError
from luthier.durable import write_durably
from luthier.run_directory import Quantization

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_DIGITS_THEN_BYTES = ("smollm",)
_BYTES = ("gpt-2", "default")
_OWN_PATTERN = ("qwen2", "llama-bpe")
"""GGUF names of pre-tokenizers: the file holds only the name, so each one that we take is written out here."""


def main(arguments: list[str]) -> int:
    """Prepares a base model folder; 1 and a sentence on stderr where the source cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m luthier.trainer.prepare", description="Prepare a base model.")
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", required=True, help="the base model's public name")
    parser.add_argument("--chat-template", type=Path, help="a .jinja file in place of the model's own template")
    parser.add_argument("--quantization", choices=["8bit", "4bit"], help="round linear weights to so few bits")
    given = parser.parse_args(arguments)
    os.environ.update({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TQDM_DISABLE": "1"})
    try:
        prepare(given.source.resolve(), given.folder.resolve(), given.name, given.chat_template, given.quantization)
    except LuthierError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


def prepare(
    source: Path,
    folder: Path,
    name: str,
    chat_template: Path | None = None,
    quantization: Quantization | None = None,
) -> None:
    """Writes `folder`/hf and `folder`/probes.json from `source`; the same source gives the same bytes."""
    # Imported here so that main can set the environment that these libraries read on import.
    from luthier.data.render import Renderer
    from luthier.trainer import chat_template as chat_templates
    from luthier.trainer import device, model, probes, quantized
    from luthier.trainer.tokenizer import FolderTokenizer

    model.settle(None, 0)
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / ".hf.tmp"
    shutil.rmtree(fresh, ignore_errors=True)
    if source.is_file() and source.suffix == ".gguf":
        causal, tokenizer = _read_gguf(source)
    elif source.is_dir():
        causal, tokenizer = _read_folder(source)
    else:
        raise InvalidRequest("unknown_source", f"{source} is neither a .gguf file nor a folder with safetensors.")
    named = None if chat_template is None else chat_template.read_text("utf-8")
    chat_templates.settle(causal, tokenizer, named)
    if quantization is not None:
        causal.requires_grad_(False)
        quantized.round_base(causal, quantization)
    causal.config.name_or_path = name
    causal.save_pretrained(fresh, max_shard_size="1TB")
    tokenizer.save_pretrained(fresh)
    chat_templates.keep_spaces(fresh / "tokenizer.json")
    del causal
    shutil.rmtree(folder / "hf", ignore_errors=True)
    fresh.rename(folder / "hf")

    # Read back what was written: that is what will be trained and served.
    chat = FolderTokenizer(folder / "hf")
    for words in chat_templates.findings(Renderer(chat, probes.MAX_PROMPT_TOKENS)):
        sys.stderr.write(f"{words}\n")
    base = model.without_adapter(model.load_base(folder, device.training_dtype()))
    asked = probes.prompts((), Renderer(chat, probes.MAX_PROMPT_TOKENS))
    write_durably(folder / probes.FILE, probes.compute(base, chat, asked, name))


def _read_folder(source: Path) -> tuple[Any, Any]:
    import torch
    import transformers

    if not (source / "config.json").is_file():
        raise InvalidRequest("unknown_source", f"{source} has no config.json.")
    for file in ("config.json", "tokenizer_config.json"):
        if (source / file).is_file() and "auto_map" in json.loads((source / file).read_bytes()):
            raise InvalidRequest("remote_code", f"{source / file} asks to run code of its own (auto_map): refused.")
    if not any(source.glob("*.safetensors")):
        pickled = any(path for pattern in _PICKLES for path in source.glob(pattern))
        reason = "only pickled weights, which can run code" if pickled else "no weights"
        raise InvalidRequest("no_safetensors", f"{source} has {reason}; safetensors are needed.")
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
        causal = transformers.AutoModelForCausalLM.from_pretrained(
            source, dtype=torch.bfloat16, use_safetensors=True, **options
        )
    except (OSError, ValueError, KeyError) as error:
        raise InvalidRequest("unreadable_source", f"{source} could not be read as a language model: {error}") from error
    return causal, tokenizer


def _read_gguf(source: Path) -> tuple[Any, Any]:
    import gguf
    import torch
    import transformers

    field = gguf.GGUFReader(source).fields.get("tokenizer.ggml.pre")
    name = str(field.contents()) if field is not None else "default"
    if name not in (*_DIGITS_THEN_BYTES, *_BYTES, *_OWN_PATTERN):
        raise InvalidRequest(
            "unknown_pre_tokenizer", f"{source.name} splits text by {name!r}, which is unknown here; use safetensors."
        )
    tokenizer = transformers.AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    _set_pre_tokenizer(tokenizer.backend_tokenizer, name)
    causal = transformers.AutoModelForCausalLM.from_pretrained(
        source.parent,
        gguf_file=source.name,
        dtype=torch.bfloat16,
        quantization_config=transformers.GgufConfig(dequantize=True),
    )
    return causal, tokenizer


def _set_pre_tokenizer(backend: Any, name: str) -> None:
    """Splits text as the model was trained to: transformers guesses by architecture, llama.cpp by this name."""
    import tokenizers

    pre = tokenizers.pre_tokenizers
    if name in _DIGITS_THEN_BYTES:
        digits = pre.Digits(individual_digits=True)
        backend.pre_tokenizer = pre.Sequence([digits, pre.ByteLevel(add_prefix_space=False, use_regex=True)])
    elif name in _BYTES:
        backend.pre_tokenizer = pre.ByteLevel(add_prefix_space=False, use_regex=True)
    else:
        numbers = r"\p{N}" if name == "qwen2" else r"\p{N}{1,3}"
        pattern = (
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
            + numbers
            + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
        split = pre.Split(tokenizers.Regex(pattern), behavior="isolated")
        backend.pre_tokenizer = pre.Sequence([split, pre.ByteLevel(add_prefix_space=False, use_regex=False)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
