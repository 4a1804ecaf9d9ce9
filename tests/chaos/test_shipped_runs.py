"""Runs whose directory is shipped through an object store, with nodes, supervisor and its disk killed at random."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fake_ray import FakeRay
from luthier.run_directory.run_events import Message, Saved
from remote import SUPPORT, Cluster, light_run, node_python, run_through, shown
from runs import contents

TRAINER = SUPPORT / "light_trainer.py"


@pytest.fixture
def ray() -> Iterator[FakeRay]:
    with FakeRay() as head:
        yield head


@pytest.mark.parametrize("seed", [1, 2, pytest.param(3, marks=pytest.mark.nightly)])
def test_light_run_whose_node_supervisor_and_disk_are_killed_ends_as_an_undisturbed_one(
    tmp_path: Path, ray: FakeRay, seed: int
) -> None:
    cluster = Cluster(ray, tmp_path, node_python(tmp_path, TRAINER))
    calm, rough = light_run(tmp_path / "ftjob-calm", 60), light_run(tmp_path / "ftjob-rough", 60)
    expected = run_through(cluster, calm, random.Random(0), 0, 1, loses_disk=False)
    absorbed = run_through(cluster, rough, random.Random(seed), 4, 2.5, loses_disk=True)
    assert shown(rough) == shown(calm)
    assert contents(rough) == contents(calm)
    assert not [event for event in absorbed.events if isinstance(event, Message)], "an attempt began again"
    steps = [(event.kind, getattr(event, "step", None)) for event in absorbed.events if not isinstance(event, Saved)]
    assert len(steps) == len(set(steps)), "an event was told twice"
    assert steps == [(event.kind, getattr(event, "step", None)) for event in expected.events if event.kind != "saved"]
    assert {57, 60} <= absorbed.steps_with_files, "the service missed the files of a checkpoint that was not dropped"
