"""The embedded model learns the guide's ten rows, and planted faults get their advice (marker `model`)."""

import csv
import json
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest

from cores import own_cores
from repository import CLIPPY_VALIDATION
from runs import TARGETS, MakeRun, events, start

NAME = "smollm2-135m-instruct"


@pytest.fixture
def embedded() -> Path:
    folder = Path(os.environ.get("LUTHIER_MODELS_DIR", "models")) / NAME
    if not (folder / "hf" / "model.safetensors").is_file():
        pytest.skip(f"{folder} is not prepared on this machine (make model, LUTHIER_MODELS_DIR)")
    return folder


LONG = ("divergence", "no signal", "no rate", "nothing")


@pytest.mark.model
@pytest.mark.nightly
@pytest.mark.timeout(2400)
def test_embedded_model_learns_clippy_to_under_a_quarter_of_the_first_loss(make_run: MakeRun, embedded: Path) -> None:
    run = make_run(
        base_model=NAME,
        base_folder=embedded,
        context_tokens=8192,
        n_epochs=6,
        batch_size=2,
        learning_rate=1e-3,
        lora={"rank": 16, "alpha": 32, "targets": TARGETS},
        threads=own_cores(),
    )
    assert start(run).wait() == 0
    assert events(run)[-1]["kind"] == "succeeded"
    losses = [float(row["train_loss"]) for row in csv.DictReader(run.results.read_text().splitlines())]
    assert sum(losses[-5:]) / 5 < losses[0] / 4


def lines(turns: list[tuple[str, str]]) -> bytes:
    rows = [[{"role": "user", "content": asked}, {"role": "assistant", "content": told}] for asked, told in turns]
    return "\n".join(json.dumps({"messages": messages}) for messages in rows).encode()


def codes(n_rows: int, seed: int) -> bytes:
    """Answers that follow from nothing: a number drawn for each."""
    draw = random.Random(seed)
    return lines(
        [(f"What is the code of item {draw.randrange(10**6)}?", f"{draw.randrange(10**8):08d}") for _ in range(n_rows)]
    )


def doubles(numbers: range) -> bytes:
    return lines([(f"How much is {n} and {n}?", f"{n} and {n} make {2 * n}, as everybody knows.") for n in numbers])


PLANTED: dict[str, tuple[bytes | None, bytes, dict[str, Any], str | None]] = {
    "overfit": (None, CLIPPY_VALIDATION.read_bytes(), {"n_epochs": 8, "batch_size": 2}, "overfitting"),
    "divergence": (doubles(range(20)), doubles(range(20, 30)), {"batch_size": 2, "learning_rate": 1.0}, "diverging"),
    "no signal": (codes(40, 1), codes(20, 2), {"n_epochs": 4, "batch_size": 4}, "does not follow|do not follow"),
    "no rate": (
        doubles(range(20)),
        doubles(range(20, 30)),
        {"batch_size": 4, "learning_rate": 1e-9},
        "Nothing was learned",
    ),
    "nothing": (doubles(range(0, 60, 2)), doubles(range(1, 41, 2)), {"n_epochs": 2, "batch_size": 4}, None),
}


@pytest.mark.model
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    "fault", [pytest.param(name, marks=pytest.mark.nightly) if name in LONG else name for name in PLANTED]
)
def test_planted_fault_gets_the_right_advice_and_a_healthy_run_none(
    make_run: MakeRun, embedded: Path, fault: str
) -> None:
    rows, valid, asked, expected = PLANTED[fault]
    recipe = {"rank": 16, "alpha": 32, "targets": TARGETS}
    fixed = {
        "base_model": NAME,
        "base_folder": embedded,
        "context_tokens": 8192,
        "lora": recipe,
        "threads": own_cores(),
    }
    run = make_run(rows=rows, valid=valid, **({"learning_rate": 1e-3} | fixed | asked))
    assert start(run).wait() == 0
    told = events(run)
    found = [f"{event['code']}: {event['message']}" for event in told if event["kind"] == "advice"]
    print(
        fault,
        [event["metrics"]["full_valid_loss"] for event in told if event["kind"] == "checkpoint"],
        *found,
        sep="\n",
    )
    # At a rate of 1.0 it depends on the processor's rounding whether the loss stays a number to the end.
    assert told[-1]["kind"] == "succeeded" or (fault, told[-1]["code"]) == ("divergence", "training_diverged")
    if expected is None:
        assert found == []
    else:
        assert re.search(expected, found[0])
