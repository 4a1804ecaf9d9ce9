"""The trainer as a real process, and what a run directory holds after it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import rows
from luthier.core.states import Method
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.train_spec import TrainSpec

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

PREFERENCES: dict[str, Any] = {"rows": rows.pairs(), "method": Method.DPO, "beta": 0.1}
"""What makes a run of `make_run` one that learns preferences."""

MakeRun = Callable[..., RunDirectory]


def bare_spec(**values: Any) -> TrainSpec:
    """A spec of a run that never is: what a schedule or an optimizer is given."""
    needed = {"job_id": "none", "base_model": "none", "base_folder": "/none", "context_tokens": 1, "seed": 0}
    return TrainSpec.model_validate({**needed, "n_epochs": 1, "batch_size": 1, "lora": None, **values})


def start(run: RunDirectory) -> subprocess.Popen[bytes]:
    """Starts the trainer as the executor does: a process with its output in trainer.log."""
    with run.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "luthier.trainer", str(run.path)],
            stdout=log,
            stderr=log,
            env={**os.environ, "PYTHONHASHSEED": "random"},
        )


def events(run: RunDirectory) -> list[dict[str, Any]]:
    """What the log holds; a torn last line is left out, as the service does."""
    return [json.loads(event.model_dump_json(exclude_none=True)) for event, _ in run.tail()]


def contents(run: RunDirectory) -> dict[str, bytes]:
    """The bytes of results, of example losses where there are any, and of every file of every checkpoint."""
    files = [run.results, *(path for path in run.checkpoints.rglob("*") if path.is_file())]
    if run.example_losses.exists():
        files.append(run.example_losses)
    return {str(path.relative_to(run.path)): path.read_bytes() for path in files}
