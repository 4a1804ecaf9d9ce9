"""Which folders with an embedding model are admitted, and what is left of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

import wordpiece
from luthier.core.errors import LuthierError
from luthier.model_source import embedding_source

CONFIG = {
    "model_type": "bert",
    "vocab_size": 8,
    "hidden_size": 4,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    wordpiece.write_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"_name_or_path": "elsewhere"}))
    weights = {
        "embeddings.word_embeddings.weight": np.zeros((8, 4), np.float32),
        "encoder.layer.0.all": np.zeros(128, np.float32),
        "embeddings.position_ids": np.arange(64),
    }
    safetensors.numpy.save_file(weights, folder / "model.safetensors")
    (folder / "1_Pooling").mkdir()
    write(folder, "1_Pooling/config.json", {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False})
    write(folder, "sentence_bert_config.json", {"max_seq_length": 32})
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Pooling"}]))
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    return folder


def write(folder: Path, name: str, content: object) -> None:
    (folder / name).write_text(json.dumps(content))


def test_admitted_folder_has_what_is_needed_and_nothing_else(source: Path, tmp_path: Path) -> None:
    admitted = embedding_source.admit_encoder(source, tmp_path / "staging")
    assert (admitted.pooling, admitted.max_tokens) == ("cls", 32)
    assert sorted(path.name for path in admitted.folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert "_name_or_path" not in json.loads((admitted.folder / "config.json").read_text())
    assert embedding_source.is_embedding_source(source)


def test_mean_is_the_pooling_of_a_source_that_names_none(source: Path, tmp_path: Path) -> None:
    (source / "1_Pooling" / "config.json").unlink()
    (source / "sentence_bert_config.json").unlink()
    admitted = embedding_source.admit_encoder(source, tmp_path / "staging")
    assert (admitted.pooling, admitted.max_tokens) == ("mean", 64)


def _changed(name: str, change: dict[str, Any]) -> Callable[[Path], None]:
    return lambda folder: write(folder, name, json.loads((folder / name).read_text()) | change)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_changed("config.json", {"model_type": "distilbert"}), "distilbert"),
        (_changed("config.json", {"auto_map": {"AutoModel": "code.py"}}), "auto_map"),
        (_changed("config.json", {"num_hidden_layers": 12}), "describes an encoder of"),
        (_changed("config.json", {"max_position_embeddings": None}), "max_position_embeddings"),
        (_changed("1_Pooling/config.json", {"pooling_mode_mean_tokens": True}), "pooling_mode_cls_token and"),
        (_changed("1_Pooling/config.json", {"pooling_mode_cls_token": False}), "no pooling"),
        (lambda folder: write(folder, "modules.json", [{"type": "a.Dense"}]), "step Dense"),
        (_changed("tokenizer.json", {"pre_tokenizer": {"type": "Whitespace"}}), "no WordPiece"),
        (lambda folder: (folder / "model.safetensors").unlink(), "only pickled weights"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
    ],
)
def test_source_that_cannot_be_served_is_refused_by_name(
    source: Path, tmp_path: Path, spoil: Callable[[Path], None], words: str
) -> None:
    spoil(source)
    with pytest.raises(LuthierError, match=words):
        embedding_source.admit_encoder(source, tmp_path / "staging")
