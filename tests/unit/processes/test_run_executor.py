"""The executor that the settings choose, and what the nodes of a cluster are told."""

from pathlib import Path

import pytest

from luthier import blobs
from luthier.executors.local import LocalExecutor
from luthier.executors.ray import RayJobs
from luthier.executors.remote_runs import RemoteRuns
from luthier.processes import run_executor
from luthier.settings import Settings

ADDRESS = "http://head:8265"


def ray_settings(folder: Path, url: str = "s3://bucket", address: str | None = ADDRESS, **more: object) -> Settings:
    values = {"data_dir": folder, "executor": "ray", "ray_address": address, "blobs_url": url}
    return Settings.model_validate(values | more)


def launcher(settings: Settings, folder: Path, prefix: str = "") -> RayJobs:
    executor = run_executor.build(settings, blobs.local(folder / "store").within(prefix))
    assert isinstance(executor, RemoteRuns)
    assert executor.key_prefix == prefix
    assert isinstance(executor.launcher, RayJobs)
    return executor.launcher


def test_executor_is_local_by_default(tmp_path: Path) -> None:
    settings = Settings.model_validate({"data_dir": tmp_path})
    assert isinstance(run_executor.build(settings, blobs.local(tmp_path / "store")), LocalExecutor)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"ray_address": ADDRESS}, "LUTHIER_BLOBS_URL"),
        ({"blobs_url": "s3://bucket"}, "LUTHIER_RAY_ADDRESS"),
    ],
)
def test_ray_without_what_it_needs_is_refused_by_name(tmp_path: Path, values: dict[str, str], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        Settings.model_validate({"data_dir": tmp_path, "executor": "ray"} | values)


@pytest.mark.parametrize("address", ["head:8265", "ray://head:10001", "http://user:word@head:8265"])
def test_address_that_is_no_dashboard_is_refused_without_repeating_it(tmp_path: Path, address: str) -> None:
    with pytest.raises(ValueError, match="LUTHIER_RAY_ADDRESS") as refused:
        run_executor.build(ray_settings(tmp_path, address=address), blobs.local(tmp_path / "store"))
    assert "word" not in str(refused.value)


def test_nodes_are_told_the_store_and_the_device_and_no_secret(tmp_path: Path) -> None:
    told = launcher(ray_settings(tmp_path, train_device="cuda", ray_token="t0ken"), tmp_path, "luthier-1").environment
    assert told == {"LUTHIER_BLOBS_URL": "s3://bucket", "LUTHIER_TRAIN_DEVICE": "cuda"}
    for url in ("https://user:secret@store/bucket", "az://container?sig=secret"):
        made = launcher(ray_settings(tmp_path, url), tmp_path)
        assert made.environment == {}, "Ray shows it: the nodes have the URL themselves"
    assert "t0ken" not in repr(launcher(ray_settings(tmp_path, ray_token="t0ken"), tmp_path))
