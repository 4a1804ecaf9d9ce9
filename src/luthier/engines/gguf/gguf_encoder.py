"""A GGUF file with a BERT encoder as a folder in Hugging Face layout, to be prepared like any other source.

`python -m luthier.engines.gguf.gguf_encoder FILE FOLDER`, for `luthier models pull`. Quantized weights become float32.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import safetensors.numpy

from luthier.atomic_io import disk_full_as_no_space
from luthier.core.errors import InvalidRequest, LuthierError, Unsupported
from luthier.engines.gguf import bert, embedding_export
from luthier.model_folder import HuggingFaceFolder
from luthier.model_source import embedding_source, gguf_header

_CONTROL = (gguf.TokenType.CONTROL, gguf.TokenType.UNKNOWN)
_POOLING_MODES = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}


def write_folder(source: Path, folder: Path) -> None:
    """Writes config, weights, tokenizer and pooling of a GGUF file into `folder`, which is made.

    Raises InvalidRequest for a damaged file, Unsupported for another architecture, pooling or tokenizer.
    """
    header = gguf_header.read(source)  # within bounds, before the library opens it
    architecture = header.metadata.get("general.architecture")
    if architecture != bert.NAME or header.metadata.get("tokenizer.ggml.model") != "bert":
        raise Unsupported(
            "unsupported_model", f"{source} is of architecture {architecture!r:.60}, and no BERT encoder."
        )
    reader = gguf.GGUFReader(source)
    values = {name: field.contents() for name, field in reader.fields.items()}
    weights = dict(_weights(reader, source))
    folder.mkdir(parents=True)
    hf = HuggingFaceFolder(folder)
    hf.config.write_text(json.dumps(_config(values, weights, source)), "utf-8")
    hf.tokenizer.write_text(json.dumps(_tokenizer(values, source)), "utf-8")
    pooling = folder / embedding_source.POOLING
    pooling.parent.mkdir()
    pooling.write_text(json.dumps({_POOLING_MODES[_pooling(values, source)]: True}), "utf-8")
    safetensors.numpy.save_file(weights, hf.weights)


def _config(
    values: Mapping[str, Any], weights: Mapping[str, npt.NDArray[np.float32]], source: Path
) -> dict[str, object]:
    """The config.json of the encoder. Raises InvalidRequest for a size that is missing."""
    keys = {
        "num_hidden_layers": "block_count",
        "hidden_size": "embedding_length",
        "intermediate_size": "feed_forward_length",
        "num_attention_heads": "attention.head_count",
        "max_position_embeddings": "context_length",
        "layer_norm_eps": "attention.layer_norm_epsilon",
    }
    try:
        sizes = {name: values[f"{bert.NAME}.{key}"] for name, key in keys.items()}
        vocabulary, token_types = (
            len(weights[f"embeddings.{name}_embeddings.weight"]) for name in ("word", "token_type")
        )
    except KeyError as error:
        raise InvalidRequest("damaged_source", f"{source} has no {error.args[0]}. Fetch the file again.") from None
    return {
        "architectures": ["BertModel"],
        "model_type": bert.NAME,
        "hidden_act": "gelu",
        "vocab_size": vocabulary,
        "type_vocab_size": token_types,
        "pad_token_id": 0,
        **sizes,
    }


def _weights(reader: Any, source: Path) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """The tensors in float32 by transformers' names. Raises Unsupported for one that is no part of a BERT."""
    for tensor in reader.tensors:
        module, _, kind = tensor.name.rpartition(".")
        name = bert.module_of(module)
        if name is None or kind not in ("weight", "bias"):
            raise Unsupported(
                "unsupported_weights", f"{source}: tensor {tensor.name!r:.80} is no part of a BERT encoder."
            )
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        yield f"{name}.{kind}", np.ascontiguousarray(values)


def _pooling(values: Mapping[str, Any], source: Path) -> str:
    """The pooling that the file names; the mean if it names none. Raises Unsupported for one that is unknown here."""
    number = values.get(f"{bert.NAME}.pooling_type", int(gguf.PoolingType.MEAN))
    for name, kind in bert.POOLINGS.items():
        if int(kind) == number:
            return name
    raise Unsupported(
        "unsupported_model", f"{source} has a pooling of type {number}; known are {', '.join(bert.POOLINGS)}."
    )


def _tokenizer(values: Mapping[str, Any], source: Path) -> dict[str, object]:
    """The tokenizer.json of the file's vocabulary; lower case, as llama.cpp reads every such file.

    Raises Unsupported for a vocabulary without BERT's special tokens.
    """
    tokens: list[str] = values["tokenizer.ggml.tokens"]
    types: list[int] = values.get("tokenizer.ggml.token_type") or [int(gguf.TokenType.NORMAL)] * len(tokens)
    # Some files mark no token as special: those between brackets are, by BERT's own names.
    named = {f"[{name}]" for name in ("CLS", "SEP", "PAD", "UNK", "MASK")}
    special = {id for id, token in enumerate(tokens) if token in named or types[id] in map(int, _CONTROL)}
    vocabulary = {token if id in special else _wordpiece(token): id for id, token in enumerate(tokens)}
    if not {"[CLS]", "[SEP]", "[UNK]"} <= vocabulary.keys() or len(vocabulary) != len(tokens):
        raise Unsupported("unsupported_tokenizer", f"{source} has no WordPiece vocabulary of a BERT.")
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [{"id": id, "content": tokens[id], "special": True, **flags} for id in sorted(special)]
    ends = {token: {"id": token, "ids": [vocabulary[token]], "tokens": [token]} for token in ("[CLS]", "[SEP]")}
    before, behind = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ends)
    single = [before, {"Sequence": {"id": "A", "type_id": 0}}, behind]
    wide = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    model = {"unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", **wide},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": ends},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", **model, "vocab": vocabulary},
    }


def _wordpiece(token: str) -> str:
    """The inverse of `embedding_export.gguf_token`."""
    mark = embedding_export.WORD_MARK
    return token.removeprefix(mark) if token.startswith(mark) else embedding_export.INNER_MARK + token


if __name__ == "__main__":
    try:
        with disk_full_as_no_space(Path(sys.argv[2]).absolute()):
            write_folder(Path(sys.argv[1]), Path(sys.argv[2]))
    except LuthierError as error:
        sys.exit(error.message)
