"""A real run on a cluster's nodes, killed at random moments: it resumes from what was shipped, to the same bytes."""

import random
from pathlib import Path

import pytest

from fake_ray import FakeRay
from remote import Cluster, run_through, shown
from runs import MakeRun, contents, start


@pytest.mark.parametrize("kills", [1, pytest.param(8, marks=pytest.mark.nightly)])
def test_real_run_that_is_killed_at_random_resumes_elsewhere_to_the_same_bytes(
    tmp_path: Path, make_run: MakeRun, kills: int
) -> None:
    calm, rough = make_run("ftjob-calm", n_epochs=6), make_run("ftjob-rough", n_epochs=6)
    assert start(calm).wait() == 0
    with FakeRay() as ray:
        run_through(Cluster(ray, tmp_path), rough, random.Random(kills), kills, 12.0, loses_disk=True)
    assert shown(rough) == shown(calm)
    assert contents(rough) == contents(calm)
