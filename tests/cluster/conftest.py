"""A cluster of real Ray nodes on this machine, and an S3 server that they reach over their own links."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench.cluster import ray_cluster
from bench.cluster.cluster_jobs import ClusterTarget
from bench.cluster.ray_cluster import Moto, RayCluster

from repository import ROOT

VENV = Path(os.environ.get("RAY_ENV", ROOT / ".cache" / "ray"))


@pytest.fixture(scope="module")
def store() -> Moto:
    return Moto(VENV / "bin" / "python", "10.77.0.1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def cluster(folder: Path, store: Moto) -> Iterator[RayCluster]:
    """Three nodes whose environment has the store's credentials and the base models, as docs/ray.md says."""
    if (reason := ray_cluster.missing(VENV)) is not None:
        pytest.skip(f"{reason}: run `make test-ray`")
    nodes = store.environment | {"LUTHIER_MODELS_DIR": str(folder / "service" / "models")}
    with RayCluster(folder, VENV, nodes) as made, store, pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment.items():
            patch.setenv(name, value)
        yield made


@pytest.fixture(scope="module")
def target(folder: Path, cluster: RayCluster, store: Moto) -> Iterator[ClusterTarget]:
    """The service over the cluster, with a tiny base model."""
    (folder / "service").mkdir()
    made = ClusterTarget(folder / "service", ROOT / ".cache" / "models", cluster, store)
    made.prepare()
    yield made
    made.close()
