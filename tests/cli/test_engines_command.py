"""luthier engines: the engine of each installed base model, and why."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from luthier.cli.main import app

NAME = "smollm2-135m-instruct"


@pytest.mark.model
def test_engines_names_the_engine_of_each_installed_model(
    base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUTHIER_MODELS_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert "No base model is installed" in CliRunner().invoke(app, ["engines"]).output
    shutil.copytree(base_folder, tmp_path / NAME, symlinks=True)
    [found] = json.loads(CliRunner().invoke(app, ["engines", "--json"]).output)
    assert (found["model"], found["engine"]) == (NAME, "native")
    monkeypatch.setenv("LUTHIER_SERVE_ENGINE", "llamacpp")
    [found] = json.loads(CliRunner().invoke(app, ["engines", "--json"]).output)
    assert (found["engine"], "asks for it" in found["reason"]) == ("llamacpp", True)
