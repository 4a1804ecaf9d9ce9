"""Jobs of a service on a real Ray cluster whose parts die: each ends in the bytes of a job on one machine."""

import time
from collections.abc import Callable

import pytest
from bench.cluster.cluster_jobs import LEASE_S, ClusterTarget, outcome_of
from bench.cluster.ray_cluster import HEAD
from bench.kills_outcome import Outcome, same
from bench.kills_target import KINDS

from repository import ROOT

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1800)]
KIND = KINDS["tiny, long"]
BEGUN = 30
"""Events of a job that trains."""


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The same job, trained undisturbed by a service on this machine."""
    folder = tmp_path_factory.mktemp("local")
    local = ClusterTarget(folder, ROOT / ".cache" / "models")
    local.prepare()
    try:
        job_id = local.create(KIND)
        local.wait_for_end(job_id)
        return outcome_of(local, job_id)
    finally:
        local.close()


def nothing(target: ClusterTarget, job_id: str) -> None:
    """The undisturbed story."""


def worker_killed(target: ClusterTarget, job_id: str) -> None:
    assert target.cluster is not None
    node = target.node_of(job_id)
    target.cluster.kill(node)
    target.cluster.start_worker(node)


def link_cut(target: ClusterTarget, job_id: str) -> None:
    """For longer than the lease; the node comes back while the next attempt trains, or after it."""
    assert target.cluster is not None
    node = target.node_of(job_id)
    target.cluster.cut(node)
    time.sleep(4 * LEASE_S)
    target.cluster.heal(node)


def head_killed(target: ClusterTarget, job_id: str) -> None:
    assert target.cluster is not None
    target.cluster.kill(HEAD)
    target.cluster.start_head()


def service_killed(target: ClusterTarget, job_id: str) -> None:
    target.kill_service()
    target.start_service()


def service_paused(target: ClusterTarget, job_id: str) -> None:
    target.pause_service(2 * LEASE_S)


@pytest.mark.parametrize(
    "fault", [nothing, worker_killed, service_killed, service_paused, head_killed, link_cut], ids=lambda it: it.__name__
)
def test_job_on_the_cluster_ends_as_on_one_machine(
    target: ClusterTarget, calm: Outcome, fault: Callable[[ClusterTarget, str], None]
) -> None:
    job_id = target.create(KIND)
    target.wait_for_steps(job_id, BEGUN)
    fault(target, job_id)
    target.wait_for_end(job_id)
    assert calm.status == "succeeded"
    assert same(outcome_of(target, job_id), calm) == []


def test_job_leaves_nothing_of_its_run_in_the_store(target: ClusterTarget) -> None:
    deadline = time.monotonic() + 60
    while left := [blob.key for blob in target.store.stored("") if "/runs/" in blob.key]:
        assert time.monotonic() < deadline, left[:5]
        time.sleep(0.5)


def test_conditional_put_on_s3_keeps_the_first_bytes(target: ClusterTarget) -> None:
    store = target.store
    assert store.put_new("conditional/one", b"first")
    assert not store.put_new("conditional/one", b"second")
    assert b"".join(store.open("conditional/one")) == b"first"
    store.delete("conditional/one")
