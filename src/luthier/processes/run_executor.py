"""The executor that the settings choose: trainers on this machine, or on the nodes of a cluster."""

from urllib.parse import urlsplit

from luthier.blobs import ObjectBlobs
from luthier.core.ports import BlobStore
from luthier.core.training.executor_port import Executor
from luthier.executors import kubernetes
from luthier.executors.followed_run import Terms
from luthier.executors.kubernetes import KubernetesJobs
from luthier.executors.launcher import Launcher
from luthier.executors.local import STOP_GRACE_S, LocalExecutor
from luthier.executors.ray import SHIPPING_GRACE_S, RayJobs
from luthier.executors.remote_runs import RemoteRuns
from luthier.run_directory.run_directory import DEVICE_VARIABLE
from luthier.runner.__main__ import BLOBS_VARIABLE
from luthier.runner.run_store import ObjectRunStore
from luthier.settings import Settings


def build(settings: Settings, blobs: BlobStore) -> Executor:
    """The executor of the settings, over the service's blob store; connects to nothing.

    Raises ValueError for a store or an address that nodes cannot use.
    """
    if settings.executor == "local":
        return LocalExecutor(device=settings.train_device, jobs=settings.train_jobs, ranks=settings.train_ranks)
    assert isinstance(blobs, ObjectBlobs)
    launcher = _ray(settings) if settings.executor == "ray" else _kubernetes(settings)
    return RemoteRuns(ObjectRunStore(blobs), launcher, blobs.prefix, Terms(lease_s=settings.run_lease_s))


def _ray(settings: Settings) -> Launcher:
    """Ray's Jobs API. Raises ValueError for an address that is none."""
    address = urlsplit(settings.ray_address or "")
    if address.scheme not in {"http", "https"} or not address.hostname or "@" in address.netloc:
        raise ValueError("LUTHIER_RAY_ADDRESS must be the http:// address of Ray's dashboard, such as http://head:8265")
    return RayJobs(
        str(settings.ray_address),
        settings.ray_token.get_secret_value() if settings.ray_token else "",
        settings.node_python,
        _environment_of_runners(settings),
        STOP_GRACE_S,
    )


def _kubernetes(settings: Settings) -> Launcher:
    """The API of the cluster that this process is a pod of. Raises ValueError for a template that is no Job."""
    assert settings.kubernetes_job is not None
    template = kubernetes.read_template(settings.kubernetes_job)
    grace_s = STOP_GRACE_S + SHIPPING_GRACE_S
    return KubernetesJobs(template, settings.node_python, _environment_of_runners(settings), grace_s)


def _environment_of_runners(settings: Settings) -> dict[str, str]:
    """The variables that a cluster passes to a runner, and shows to who may look at it: so no URL with a credential.

    The nodes have that one, and all credentials of the store, in their own environment.
    """
    environment: dict[str, str] = {} if settings.train_device == "auto" else {DEVICE_VARIABLE: settings.train_device}
    parts = urlsplit(str(settings.blobs_url))
    if "@" not in parts.netloc and not parts.query:
        environment[BLOBS_VARIABLE] = str(settings.blobs_url)
    return environment
