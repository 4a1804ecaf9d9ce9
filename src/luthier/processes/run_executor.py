"""The executor that the settings choose: trainers on this machine, or on the nodes of a Ray cluster."""

from urllib.parse import urlsplit

from luthier.blobs import ObjectBlobs
from luthier.core.ports import BlobStore
from luthier.core.training.executor_port import Executor
from luthier.executors.local import STOP_GRACE_S, LocalExecutor
from luthier.executors.ray import RayJobs
from luthier.executors.remote_runs import RemoteRuns, Terms
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
    address = urlsplit(settings.ray_address or "")
    if address.scheme not in {"http", "https"} or not address.hostname or "@" in address.netloc:
        raise ValueError("LUTHIER_RAY_ADDRESS must be the http:// address of Ray's dashboard, such as http://head:8265")
    terms = Terms(lease_s=settings.run_lease_s)
    launcher = RayJobs(
        str(settings.ray_address),
        settings.ray_token.get_secret_value() if settings.ray_token else "",
        settings.ray_python,
        _environment_of_runners(settings),
        STOP_GRACE_S,
    )
    return RemoteRuns(ObjectRunStore(blobs), launcher, blobs.prefix, terms)


def _environment_of_runners(settings: Settings) -> dict[str, str]:
    """The variables that Ray passes to a runner, and shows to whoever sees its dashboard: so no URL with a credential.

    The nodes have that one, and all credentials of the store, in their own environment.
    """
    environment: dict[str, str] = {} if settings.train_device == "auto" else {DEVICE_VARIABLE: settings.train_device}
    parts = urlsplit(str(settings.blobs_url))
    if "@" not in parts.netloc and not parts.query:
        environment[BLOBS_VARIABLE] = str(settings.blobs_url)
    return environment
