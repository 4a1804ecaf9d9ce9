"""A trainer ended at every effect on the disk in turn: its next attempt ends in the bytes and events of a calm run."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from luthier.run_directory.run_directory import RunDirectory
from repository import TESTS
from runs import PREFERENCES, MakeRun

SCRIPT = TESTS / "support" / "crashes.py"


def crashed(run: RunDirectory, *arguments: str) -> dict[str, Any]:
    paths = os.pathsep.join([str(SCRIPT.parent), *filter(None, sys.path)])
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(run.path), *arguments],
        stdout=subprocess.PIPE,
        env={**os.environ, **one_thread, "PYTHONPATH": paths},
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


# Every effect takes minutes; each thirteenth is always run.
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("stride", [13, pytest.param(1, marks=pytest.mark.nightly)])
def test_crash_at_any_effect_of_two_epochs_changes_no_byte_and_no_event(make_run: MakeRun, stride: int) -> None:
    told = crashed(make_run(n_epochs=2, batch_size=5, keep_checkpoints=1), "each", str(stride))
    assert told["effects"] > 100
    assert told["crashes"] >= told["effects"] // stride
    assert told["wrong"] == []


@pytest.mark.timeout(2400)
def test_crash_at_effects_of_a_run_that_learns_preferences_changes_no_byte(make_run: MakeRun) -> None:
    told = crashed(make_run(n_epochs=1, batch_size=5, keep_checkpoints=1, **PREFERENCES), "each", "9")
    assert told["crashes"] > 8
    assert told["wrong"] == []


@pytest.mark.parametrize("more", [{}, PREFERENCES], ids=["supervised", "dpo"])
def test_crash_after_crash_each_later_than_the_one_before_changes_no_byte(
    make_run: MakeRun, more: dict[str, Any]
) -> None:
    told = crashed(make_run(n_epochs=3, batch_size=5, keep_checkpoints=1, **more), "storm", "11")
    assert told["crashes"] > 5
    assert told["wrong"] == []
