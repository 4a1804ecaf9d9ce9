"""tokenizer.json, validated before its library reads it: its size, its regular expressions, its required parts."""

from pathlib import Path
from typing import Any

from luthier.core.errors import Unsupported
from luthier.model_source import split_patterns
from luthier.model_source.bounded_json import damaged, parse_object
from luthier.model_source.configuration import MAX_VOCABULARY

MAX_BYTES = 128 * 1024**2


def read(path: Path) -> bytes:
    """The bytes of a tokenizer.json that may be loaded, unchanged.

    Raises InvalidRequest for a file that is missing, too long or no tokenizer, Unsupported for another type than BPE or
    an unknown regular expression.
    """
    data, content = _bounded(path)
    match content:
        case {"model": {"type": "BPE", "vocab": dict(vocabulary), "merges": list()}} if _has_ids(vocabulary):
            _refuse_other_patterns({name: value for name, value in content.items() if name != "model"}, path)
            return data
        case {"model": {"type": str(kind)}} if kind != "BPE":
            raise Unsupported("unsupported_tokenizer", f"{path} is a tokenizer of type {kind!r:.40}; BPE can be used.")
    raise damaged(path, "has no vocabulary and merges of a BPE tokenizer")


def read_wordpiece(path: Path) -> bytes:
    """The bytes of a tokenizer.json of a BERT: WordPiece, split as BERT splits, [CLS] before a text and [SEP] behind.

    Raises InvalidRequest for a file that is missing, too long or no tokenizer, Unsupported for another type.
    """
    data, content = _bounded(path)
    match content:
        case {
            "model": {"type": "WordPiece", "vocab": dict(vocabulary)},
            "normalizer": {"type": "BertNormalizer"},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {"type": "TemplateProcessing" | "BertProcessing"},
        } if {"[CLS]", "[SEP]", "[UNK]"} <= vocabulary.keys() and _has_ids(vocabulary):
            return data
    raise Unsupported(
        "unsupported_tokenizer", f"{path} is no WordPiece tokenizer of a BERT; embedding models need one."
    )


def _bounded(path: Path) -> tuple[bytes, dict[str, Any]]:
    """The bytes and the content of a tokenizer.json. Raises InvalidRequest for one that is missing or too long."""
    if not path.is_file():
        raise damaged(path, "is missing: a tokenizer is taken in this form only")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise damaged(path, f"is {size:,} bytes long; at most {MAX_BYTES:,} are read")
    data = path.read_bytes()
    return data, parse_object(data, path)


def _has_ids(vocabulary: dict[str, Any]) -> bool:
    """Whether there is a vocabulary, and each token has an id that can be one."""
    return 0 < len(vocabulary) <= MAX_VOCABULARY and all(
        type(id) is int and 0 <= id < MAX_VOCABULARY for id in vocabulary.values()
    )


def _refuse_other_patterns(content: dict[str, Any], path: Path) -> None:
    """Raises Unsupported for a regular expression, at any depth, that is not among the known ones."""
    pending: list[Any] = [content]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            pattern = node.get("Regex")
            if pattern is not None and pattern not in split_patterns.KNOWN:
                raise Unsupported(
                    "unsupported_tokenizer",
                    f"{path} cuts text by a regular expression that is not known here; it is never run. "
                    "Choose a base model of a known family (SmolLM2, Qwen, Llama, Mistral, Gemma, Phi).",
                )
            pending += node.values()
        elif isinstance(node, list):
            pending += node
