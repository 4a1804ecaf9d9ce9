"""`python -m luthier.trainer.model.prepare SOURCE FOLDER --name NAME`: weights from elsewhere -> a base model folder.

`luthier models pull` runs it as a process; it is here because it needs torch. SOURCE is a GGUF file or a folder in
Hugging Face layout with safetensors. FOLDER gets hf/ (bf16, what is trained is what is served) and probes.json.
`--chat-template FILE` is a template in place of the model's own; `--quantization` rounds the weights for training on
few bits (trainer/layers/quantized_weights.py).

Libraries open only what luthier.model_source admits: no pickle, no file from outside the source, no code. An error that
they still raise ends in a sentence.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors

from luthier.atomic_io import disk_full_as_no_space, write_durably
from luthier.core.errors import InvalidRequest, LuthierError
from luthier.model_folder import BaseModelFolder, HuggingFaceFolder
from luthier.model_source import gguf_header, source_checks
from luthier.run_directory.train_spec import Quantization

_LIBRARY_FAULTS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,
    ArithmeticError,
    ImportError,
    AssertionError,
    safetensors.SafetensorError,
)
"""What transformers, tokenizers and safetensors raise at files that they cannot use."""
_DIGITS_THEN_BYTES = ("smollm",)
_BYTES = ("gpt-2", "default")
_OWN_PATTERN = ("qwen2", "llama-bpe")
"""GGUF names of pre-tokenizers: the file holds only the name, so each one that we take is written out here."""


LENIENT = {"ignore_mismatched_sizes": True}
"""What does not fit is told by name here (`refuse_missing`); the library ends in a traceback."""


def main(arguments: list[str]) -> int:
    """Prepares a base model folder; returns the exit code: 1, with a sentence on stderr, if that is not possible.

    That is a source that cannot be used, or a full disk. Temporary folders are removed in either case.
    """
    parser = argparse.ArgumentParser(
        prog="python -m luthier.trainer.model.prepare", description="Prepare a base model."
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", required=True, help="the base model's public name")
    parser.add_argument("--chat-template", type=Path, help="a .jinja file in place of the model's own template")
    parser.add_argument("--quantization", choices=["8bit", "4bit"], help="round linear weights to so few bits")
    given = parser.parse_args(arguments)
    os.environ.update({"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TQDM_DISABLE": "1"})
    try:
        with disk_full_as_no_space(given.folder.absolute()):
            prepare(
                given.source.absolute(), given.folder.resolve(), given.name, given.chat_template, given.quantization
            )
    except LuthierError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    except safetensors.SafetensorError as error:  # of the weights that were to be written
        sys.stderr.write(f"The weights could not be written to {given.folder}: {error}. Make room, and pull again.\n")
        return 1
    finally:
        for leftover in (".hf.tmp", ".source.tmp"):
            shutil.rmtree(given.folder / leftover, ignore_errors=True)
    return 0


def prepare(
    source: Path,
    folder: Path,
    name: str,
    chat_template: Path | None = None,
    quantization: Quantization | None = None,
) -> None:
    """Writes `folder`/hf, replacing one that is there, and `folder`/probes.json; the same source gives the same bytes.

    Warnings about the chat template go to stderr. Raises LuthierError for a source that cannot be used, SafetensorError
    if the weights cannot be written.
    """
    # Imported here so that main can set the environment that these libraries read on import.
    from luthier.data.rendering.renderer import Renderer
    from luthier.trainer.dataset import chat_template as chat_templates
    from luthier.trainer.dataset import probe_prompts
    from luthier.trainer.dataset.tokenizer import FolderTokenizer
    from luthier.trainer.layers import quantized_weights
    from luthier.trainer.model import devices, probes, tuned_model

    tuned_model.configure_process(None, 0)
    folder.mkdir(parents=True, exist_ok=True)
    fresh, staging = folder / ".hf.tmp", folder / ".source.tmp"
    for leftover in (fresh, staging):
        shutil.rmtree(leftover, ignore_errors=True)
    admitted = source_checks.admit(source, staging, chat_template)
    causal, tokenizer = _read_gguf(admitted) if admitted.is_file() else _read_folder(admitted)
    refuse_without_numbers(causal, source)
    template = HuggingFaceFolder(staging).chat_template
    named = template.read_text("utf-8") if template.exists() else None
    chat_templates.configure_template(causal, tokenizer, named)
    if quantization is not None:
        causal.requires_grad_(False)
        quantized_weights.round_base(causal, quantization)
    causal.config.name_or_path = name
    causal.save_pretrained(fresh, max_shard_size="1TB")
    tokenizer.save_pretrained(fresh)
    chat_templates.keep_spaces(HuggingFaceFolder(fresh).tokenizer)
    del causal
    shutil.rmtree(staging)
    base = BaseModelFolder(folder)
    shutil.rmtree(base.hf.path, ignore_errors=True)
    fresh.rename(base.hf.path)

    # Read back what was written: that is what will be trained and served.
    chat = FolderTokenizer(base.hf.path)
    for words in chat_templates.template_warnings(Renderer(chat, probe_prompts.MAX_PROMPT_TOKENS)):
        sys.stderr.write(f"{words}\n")
    tuned = tuned_model.frozen_model(tuned_model.load_base(folder, devices.training_dtype()))
    write_durably(base.probes, probes.compute(tuned, chat, probe_prompts.FIXED, name))


def _read_folder(source: Path) -> tuple[Any, Any]:
    """Model in bf16 and tokenizer from an admitted folder. Raises InvalidRequest if the libraries cannot read it."""
    import torch
    import transformers

    options = {"local_files_only": True, "trust_remote_code": False}
    with in_words():
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **options)
        causal, loading = transformers.AutoModelForCausalLM.from_pretrained(
            source, dtype=torch.bfloat16, use_safetensors=True, output_loading_info=True, **LENIENT, **options
        )
    refuse_missing(loading)
    return causal, tokenizer


@contextmanager
def in_words() -> Iterator[None]:
    """Turns an error that a library raises at admitted files into InvalidRequest, with the error's first line."""
    try:
        yield
    except LuthierError:
        raise
    except _LIBRARY_FAULTS as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InvalidRequest(
            "unreadable_source",
            f"The source could not be read as a language model ({type(error).__name__}: {first[:300]}). Fetch it "
            "again, or choose another model.",
        ) from error


def refuse_missing(loading: Mapping[str, Any]) -> None:
    """Raises InvalidRequest for weights that are not there or have another shape; `loading` is transformers' account.

    transformers itself fills them with random numbers, and says so only in a log.
    """
    for name, there, wanted in sorted(loading["mismatched_keys"]):
        raise InvalidRequest(
            "weights_do_not_fit",
            f"The source's tensor {name} has the shape {list(there)}; by config.json it would have {list(wanted)}. "
            "Fetch config.json and the weights again, from one place.",
        )
    missing = sorted(map(str, loading["missing_keys"]))
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise InvalidRequest(
            "missing_weights",
            f"The weights of the source are not whole: {', '.join(missing[:3])}{more} are missing. Fetch it again.",
        )


def refuse_without_numbers(causal: Any, source: Path) -> None:
    """Raises InvalidRequest that names the first tensor with NaN or infinite values."""
    for name, parameter in causal.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise InvalidRequest(
                "weights_without_numbers",
                f"{source}: tensor {name} holds values that are no numbers (NaN or infinite). Fetch the file again.",
            )


def _read_gguf(source: Path) -> tuple[Any, Any]:
    """Model, dequantized to bf16, and tokenizer from an admitted GGUF file.

    Raises InvalidRequest if the libraries cannot read it, or its pre-tokenizer is not known here.
    """
    import torch
    import transformers

    name = str(gguf_header.read(source).metadata.get("tokenizer.ggml.pre", "default"))
    if name not in (*_DIGITS_THEN_BYTES, *_BYTES, *_OWN_PATTERN):
        raise InvalidRequest(
            "unknown_pre_tokenizer", f"{source.name} splits text by {name!r}, which is unknown here; use safetensors."
        )
    with in_words():
        tokenizer = transformers.AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        _set_pre_tokenizer(tokenizer.backend_tokenizer, name)
        causal, loading = transformers.AutoModelForCausalLM.from_pretrained(
            source.parent,
            gguf_file=source.name,
            dtype=torch.bfloat16,
            quantization_config=transformers.GgufConfig(dequantize=True),
            output_loading_info=True,
            **LENIENT,
            local_files_only=True,
            trust_remote_code=False,
        )
    refuse_missing(loading)
    return causal, tokenizer


def _set_pre_tokenizer(backend: Any, name: str) -> None:
    """Sets how a tokenizer's backend splits text, in place, by the pre-tokenizer's name in the GGUF file.

    transformers guesses by architecture; llama.cpp goes by this name, and the model was trained so.
    """
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
