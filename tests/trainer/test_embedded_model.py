"""The embedded model learns the guide's ten rows (marker `model`)."""

import csv
import os
from pathlib import Path

import pytest
from runs import TARGETS, MakeRun, events, start

NAME = "smollm2-135m-instruct"


@pytest.fixture
def embedded() -> Path:
    folder = Path(os.environ.get("LUTHIER_MODELS_DIR", "models")) / NAME
    if not (folder / "hf" / "model.safetensors").is_file():
        pytest.skip(f"{folder} is not prepared on this machine (make model, LUTHIER_MODELS_DIR)")
    return folder


@pytest.mark.model
@pytest.mark.timeout(900)
def test_embedded_model_learns_clippy_to_under_a_quarter_of_the_first_loss(make_run: MakeRun, embedded: Path) -> None:
    run = make_run(
        base_model=NAME,
        base_folder=embedded,
        context_tokens=8192,
        n_epochs=6,
        batch_size=2,
        learning_rate=1e-3,
        lora={"rank": 16, "alpha": 32, "targets": TARGETS},
        threads=None,
    )
    assert start(run).wait() == 0
    assert events(run)[-1]["kind"] == "succeeded"
    losses = [float(row["train_loss"]) for row in csv.DictReader(run.results.read_text().splitlines())]
    assert sum(losses[-5:]) / 5 < losses[0] / 4
