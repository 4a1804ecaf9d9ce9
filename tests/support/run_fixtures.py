"""A tiny base model for the session, and run directories on it."""

from pathlib import Path
from typing import Any

import pytest

import tiny
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.train_spec import LoraRecipe, TrainSpec
from repository import CLIPPY
from runs import TARGETS, MakeRun


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model's folder; read only."""
    return tiny.base_folder(tmp_path_factory.mktemp("base") / "tiny")


@pytest.fixture
def make_run(tmp_path: Path, base: Path) -> MakeRun:
    """Makes a run directory on the tiny base: ten Clippy rows, three epochs of four steps unless told otherwise."""
    return maker(tmp_path, base)


def maker(folder: Path, base: Path) -> MakeRun:
    """What `make_run` is, with its run directories in `folder`."""

    def make(name: str = "run", rows: bytes | None = None, valid: bytes | None = None, **spec: Any) -> RunDirectory:
        run = RunDirectory(folder / name)
        run.path.mkdir()
        run.training.write_bytes(CLIPPY.read_bytes() if rows is None else rows)
        if valid is not None:
            run.validation.write_bytes(valid)
        values = {
            "job_id": "ftjob-1",
            "base_model": tiny.NAME,
            "base_folder": base,
            "context_tokens": 512,
            "seed": 7,
            "n_epochs": 3,
            "batch_size": 3,
            "learning_rate": 1e-2,
            "lora": LoraRecipe(rank=4, alpha=8, targets=TARGETS),
            "has_validation": valid is not None,
            "threads": 1,
        }
        run.write_spec(TrainSpec.model_validate(values | spec))
        return run

    return make
