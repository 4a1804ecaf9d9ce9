"""An installation whose catalog and models folder hold a tiny base model, for commands that need no service."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import rows
import tiny
from fakes import KEY
from luthier.cli.main import app
from luthier.service.background.supervisor import Supervisor

Command = Callable[..., Result]

_ENTRY = f"""
[[model]]
name = "{tiny.NAME}"
title = "Tiny"
parameters = "0.1M"
licence = "Apache-2.0"
released = 1
context_tokens = 512
learning_rate = 1e-2
lora = {{ rank = 4, alpha = 8, targets = ["q_proj", "v_proj"] }}
source = {{ kind = "folder", path = "." }}
"""


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with the tiny base model, as `luthier models pull` leaves it."""
    models = tmp_path_factory.mktemp("models")
    base = tiny.base_folder(models / tiny.NAME)
    (base / "prepared.json").write_text(json.dumps({"name": tiny.NAME}))
    return models


@pytest.fixture
def alone(tiny_models: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """`luthier` as typed in an own folder, with no service anywhere."""
    (tmp_path / "catalog.toml").write_text(_ENTRY)
    monkeypatch.setenv("LUTHIER_CATALOG", str(tmp_path / "catalog.toml"))
    monkeypatch.setenv("LUTHIER_MODELS_DIR", str(tiny_models))
    monkeypatch.setenv("LUTHIER_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("LUTHIER_TRAIN_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


@pytest.fixture
def luthier(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """`luthier` as typed in an own folder, beside rows.jsonl, with the service of the test."""
    monkeypatch.setenv("LUTHIER_URL", url)
    monkeypatch.setenv("LUTHIER_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_bytes(rows.good())
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


@pytest.fixture
def working(supervisor: Supervisor) -> Iterator[None]:
    """The supervisor at work in the background, as `luthier serve` has it."""
    supervisor.start()
    yield
    supervisor.stop()
