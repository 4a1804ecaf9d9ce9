"""Exports an embedding model to GGUF, the file that llama.cpp serves.

`python -m luthier.engines.gguf.embedding_export FOLDER` writes FOLDER/base-f16.gguf from FOLDER/hf, for `luthier models
pull`. The tokenizer is written as llama.cpp's own converter does it, and never asked: the service sends token ids.
"""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from luthier.atomic_io import disk_full_as_no_space
from luthier.core.errors import LuthierError, Unsupported
from luthier.engines.gguf import bert, export, safetensors_file
from luthier.engines.gguf.bert import EncoderShape
from luthier.engines.gguf.safetensors_file import StoredTensor
from luthier.model_folder import EmbeddingFolder

WORD_MARK = "\u2581"
"""What llama.cpp puts before a token that begins a word; in WordPiece the others are marked, by `##`."""
INNER_MARK = "##"
_MATRICES_IN_FLOAT32 = frozenset(("position_embd.weight", "token_types.weight"))
"""llama.cpp adds them to float32 vectors, and has no such sum for f16."""


def export_encoder(folder: Path) -> Path:
    """Writes base-f16.gguf from the folder's weights, atomically, and returns its path.

    Matrices are f16, all else is float32. Raises Unsupported for an encoder that llama.cpp computes otherwise, and
    InvalidRequest for weights that are missing or damaged.
    """
    embedding = EmbeddingFolder(folder)
    shape, description = bert.read_shape(embedding), embedding.read()
    tensors = dict(_tensors(embedding))
    writer = gguf.GGUFWriter(path=None, arch=bert.NAME)
    writer.add_type("model")
    _add_shape(writer, shape)
    writer.add_pooling_type(bert.POOLINGS[description.pooling])
    _add_tokenizer(writer, embedding, shape)
    for name, tensor in tensors.items():
        dtype = _dtype(name, tensor)
        writer.add_tensor_info(name, tensor.shape, dtype, math.prod(tensor.shape) * dtype.itemsize)
    with export.atomic_file(writer, embedding.gguf):
        writer.write_ti_data_to_file()
        for name, tensor in tensors.items():
            kinds = gguf.GGMLQuantizationType
            kind = kinds.F32 if _dtype(name, tensor) == np.float32 else kinds.F16
            writer.write_tensor_data(export.narrow(name, tensor.read(), kind))
    return embedding.gguf


def _add_shape(writer: gguf.GGUFWriter, shape: EncoderShape) -> None:
    """Adds the encoder's sizes to the file's metadata; its attention looks at the whole text."""
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.positions)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_layer_norm_eps(shape.norm_epsilon)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_token_type_count(shape.token_types)
    writer.add_causal_attention(False)


def _add_tokenizer(writer: gguf.GGUFWriter, folder: EmbeddingFolder, shape: EncoderShape) -> None:
    """Adds a WordPiece vocabulary and its special tokens."""
    tokenizer = json.loads(folder.hf.tokenizer.read_bytes())
    special = {token["content"] for token in tokenizer["added_tokens"] if token["special"]}
    tokens = [f"[PAD{id}]" for id in range(shape.vocabulary)]
    types = [gguf.TokenType.UNUSED] * shape.vocabulary
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    for token, id in vocabulary.items():
        tokens[id] = token if token in special else gguf_token(token)
        types[id] = gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    for add_id, token in (
        (writer.add_bos_token_id, "[CLS]"),
        (writer.add_eos_token_id, "[SEP]"),
        (writer.add_sep_token_id, "[SEP]"),
        (writer.add_unk_token_id, "[UNK]"),
        (writer.add_pad_token_id, "[PAD]"),
        (writer.add_mask_token_id, "[MASK]"),
    ):
        if token in vocabulary:
            add_id(vocabulary[token])


def gguf_token(token: str) -> str:
    """A token of WordPiece as GGUF spells it: `##ing` is `ing`, and `sea` is `▁sea`."""
    return token.removeprefix(INNER_MARK) if token.startswith(INNER_MARK) else WORD_MARK + token


def _tensors(folder: EmbeddingFolder) -> Iterator[tuple[str, StoredTensor]]:
    """The stored tensors by their names in GGUF, without the pooler. Raises Unsupported for one without a place."""
    for name, tensor in safetensors_file.weights_of(folder.hf.path).items():
        module, _, kind = name.rpartition(".")
        if bert.is_left_out(name):
            continue
        gguf_name = bert.gguf_module(module)
        if gguf_name is None or kind not in ("weight", "bias"):
            raise Unsupported("unsupported_weights", f"Tensor {name} has no place in a {bert.NAME} GGUF file.")
        yield f"{gguf_name}.{kind}", tensor


def _dtype(name: str, tensor: StoredTensor) -> np.dtype[Any]:
    """float16 for matrices that are multiplied, float32 for all else."""
    narrow = len(tensor.shape) > 1 and name not in _MATRICES_IN_FLOAT32
    return np.dtype(np.float16 if narrow else np.float32)


if __name__ == "__main__":
    try:
        with disk_full_as_no_space(EmbeddingFolder(Path(sys.argv[1]).absolute()).gguf):
            export_encoder(Path(sys.argv[1]))
    except LuthierError as error:
        sys.exit(error.message)
