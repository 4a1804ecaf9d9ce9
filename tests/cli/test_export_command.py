"""luthier export: into a folder, continued where it broke off, checked by sha256, and pushed to a hub."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

import hub_uploads
import sharing
from fake_exports import CONTENT, FakeExporter
from fakes import BASE, KEY
from hub_uploads import UploadHub
from luthier.core.errors import UpstreamFailed
from luthier.service.background.export_worker import ExportWorker
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context

Command = Callable[..., Result]


@pytest.fixture
def exporter() -> FakeExporter:
    return FakeExporter()


@pytest.fixture
def model(url: str, supervisor: Supervisor, context: Context, exporter: FakeExporter) -> Iterator[str]:
    """A tuned model, with a worker that exports in the background."""
    worker = ExportWorker(context, exporter, tick_s=0.01)
    worker.start()
    yield sharing.train(url, supervisor)[1]
    worker.stop()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_export_fills_a_folder_and_prints_the_figures(luthier: Command, model: str, tmp_path: Path) -> None:
    done = luthier("export", model, "--format", "gguf", "--dtype", "q8_0", "--out", "out")
    assert done.exit_code == 0, done.output
    assert contents(tmp_path / "out") == CONTENT
    assert "parity in llama.cpp: at most 0.0200 nats over 64 positions" in done.stdout
    again = luthier("export", model, "--format", "gguf", "--out", "out2", "--json")
    assert json.loads(again.stdout)["parity"]["top_agreement"] == 1.0


def test_export_into_a_folder_with_files_needs_force(luthier: Command, model: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    refused = luthier("export", model, "--format", "gguf", "--out", "out")
    assert refused.exit_code == 1
    assert "not empty" in refused.stderr
    assert luthier("export", model, "--format", "gguf", "--out", "out", "--force").exit_code == 0
    assert contents(tmp_path / "out") == CONTENT | {"mine.txt": b"mine"}


def test_export_that_broke_off_continues_by_range(
    luthier: Command, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert luthier("export", model, "--format", "gguf", "--out", "out").exit_code == 0
    export_id = json.loads(luthier("export", model, "--format", "gguf", "--out", "copy", "--json").stdout)["id"]
    (out / "model.gguf").unlink()
    (out / ".model.gguf.part").write_bytes(CONTENT["model.gguf"][:1_000_000])
    (out / ".luthier-export.json").write_text(json.dumps({"id": export_id}))
    got: list[int] = []
    digest = hashlib.sha256

    def counted(data: bytes = b"") -> object:
        got.append(len(data))
        return digest(data)

    monkeypatch.setattr("luthier.cli.exports.export_download.hashlib.sha256", counted)
    assert luthier("export", model, "--format", "gguf", "--out", "out").exit_code == 0
    assert contents(out) == CONTENT


def test_export_whose_earlier_part_is_damaged_is_told_and_begun_anew(
    luthier: Command, model: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    export_id = json.loads(luthier("export", model, "--format", "gguf", "--out", "copy", "--json").stdout)["id"]
    out.mkdir()
    (out / ".luthier-export.json").write_text(json.dumps({"id": export_id}))
    (out / ".model.gguf.part").write_bytes(b"x" * 1_000_000)
    damaged = luthier("export", model, "--format", "gguf", "--out", "out")
    assert damaged.exit_code == 1
    assert "model.gguf arrived damaged" in damaged.stderr
    assert not (out / "model.gguf").exists()
    assert luthier("export", model, "--format", "gguf", "--out", "out").exit_code == 0
    assert contents(out) == CONTENT


def test_export_that_fails_says_why_and_leaves_an_empty_folder(
    luthier: Command, model: str, exporter: FakeExporter, tmp_path: Path
) -> None:
    exporter.fails = [UpstreamFailed("parity_failed", "It differs by up to 2.5000 nats.")]
    failed = luthier("export", model, "--format", "merged", "--out", "out")
    assert failed.exit_code == 1
    assert "It differs by up to 2.5000 nats. (parity_failed)" in failed.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_export_of_what_cannot_be_ends_with_one_line(luthier: Command, model: str) -> None:
    assert "base model" in luthier("export", BASE, "--format", "gguf", "--out", "o").stderr
    assert luthier("export", model, "--format", "onnx", "--out", "o").exit_code == 2
    refused = luthier("export", model, "--format", "merged", "--dtype", "q8_0", "--out", "o")
    assert "merged has no q8_0" in refused.stderr


@pytest.fixture
def hub() -> Iterator[UploadHub]:
    with hub_uploads.running() as made:
        yield made


def push(
    url: str, hub: UploadHub, tmp_path: Path, *arguments: str, **environment: str
) -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own: huggingface_hub reads its variables when it is imported."""
    own = {"LUTHIER_URL": url, "LUTHIER_API_KEY": KEY, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": hub_uploads.TOKEN}
    more = {
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "0",
    }
    variables = {name: value for name, value in (os.environ | own | more | environment).items() if value}
    command = [sys.executable, "-m", "luthier", "export", *arguments]
    return subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False)


def test_push_uploads_files_and_card_to_a_private_repository(
    url: str, model: str, hub: UploadHub, tmp_path: Path
) -> None:
    arguments = (model, "--format", "gguf", "--out", "out", "--push", "me/clippy")
    done = push(url, hub, tmp_path, *arguments)
    assert done.returncode == 0, done.stderr
    assert f"pushed to {hub.endpoint}/me/clippy" in done.stdout
    assert hub.files == {"me/clippy": CONTENT}
    assert hub.repositories["me/clippy"]["visibility"] == "private"
    kinds = [asked.partition(" ")[2].rpartition("/")[2] for asked in hub.asked if asked.startswith("POST")]
    assert {"create", "validate-yaml", "main", "batch"} <= set(kinds)
    assert hub.asked.count("PUT /part") == 2, "1.28 MB in two parts"
    again = push(url, hub, tmp_path, *arguments, "--force")
    assert again.returncode == 0, again.stderr
    assert hub.asked.count("PUT /part") == 2, "what the hub has is not sent again"


def test_push_makes_a_public_repository_only_if_told_to(url: str, model: str, hub: UploadHub, tmp_path: Path) -> None:
    done = push(url, hub, tmp_path, model, "--format", "gguf", "--out", "out", "--push", "me/open", "--public")
    assert done.returncode == 0, done.stderr
    assert hub.repositories["me/open"]["visibility"] == "public"


def test_push_that_a_hub_refuses_leaves_the_files_and_says_so(
    url: str, model: str, hub: UploadHub, tmp_path: Path
) -> None:
    refused = push(url, hub, tmp_path, model, "--format", "gguf", "--out", "out", "--push", "forbidden/clippy")
    assert refused.returncode == 1
    assert "forbidden/clippy" in refused.stderr
    assert "The files are in out" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert contents(tmp_path / "out") == CONTENT


def test_push_without_a_token_or_with_a_bad_name_is_refused_before_anything_is_made(
    url: str, model: str, hub: UploadHub, tmp_path: Path, exporter: FakeExporter
) -> None:
    for arguments, variables, words in (
        (("--push", "me/clippy"), {"HF_TOKEN": ""}, "HF_TOKEN"),
        (("--push", "clippy"), {}, "ORG/NAME"),
    ):
        refused = push(url, hub, tmp_path, model, "--format", "gguf", "--out", "out", *arguments, **variables)
        assert refused.returncode == 1
        assert words in refused.stderr
    assert exporter.specs == []
    assert hub.asked == []
