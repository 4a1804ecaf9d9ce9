"""Jobs of a real service whose trainers run on the cluster, and what they end in."""

import hashlib
import json
import signal
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import tiny
from bench.cluster.ray_cluster import Moto, RayCluster
from bench.kills_outcome import Outcome
from bench.kills_target import Target
from luthier import blobs
from luthier.blobs import ObjectBlobs

LEASE_S = 20


class ClusterTarget(Target):
    """A service with LUTHIER_EXECUTOR=ray and its blobs in moto; without a cluster one that trains by itself.

    `models` has the embedded base model; the nodes see the service's models folder under the same path.
    """

    def __init__(
        self, folder: Path, models: Path, cluster: RayCluster | None = None, store: Moto | None = None
    ) -> None:
        source = folder / "source"
        if not source.exists():
            tiny.base_folder(source)
        super().__init__(folder, models, source / "hf")
        self.cluster = cluster
        if cluster is not None and store is not None:
            self._environment |= store.environment | {
                "LUTHIER_BLOBS_URL": f"s3://{store.bucket}",
                "LUTHIER_EXECUTOR": "ray",
                "LUTHIER_RAY_ADDRESS": cluster.dashboard,
                "LUTHIER_NODE_PYTHON": sys.executable,
                "LUTHIER_RUN_LEASE_S": str(LEASE_S),
            }

    @property
    def store(self) -> ObjectBlobs:
        """The blob store, read from this process; of a cluster's, the credentials must be in its environment."""
        url = self._environment.get("LUTHIER_BLOBS_URL")
        return blobs.by_url(url) if url else blobs.local(self.data / "blobs")

    def wait_for_steps(self, job_id: str, n_events: int, limit_s: float = 180) -> None:
        """Returns once so many events of the job are told. Raises TimeoutError."""
        jobs = self.client.fine_tuning.jobs
        self._wait(lambda: len(list(jobs.list_events(job_id, limit=n_events).data)) >= n_events, limit_s)

    def wait_for_end(self, job_id: str, limit_s: float = 400) -> None:
        """Returns once the job has ended. Raises TimeoutError."""
        ends = {"succeeded", "failed", "cancelled"}
        self._wait(lambda: self.client.fine_tuning.jobs.retrieve(job_id).status in ends, limit_s)

    def node_of(self, job_id: str) -> int:
        """The node that the job's newest attempt is on. Raises TimeoutError where Ray has not placed it."""
        assert self.cluster is not None
        with urllib.request.urlopen(f"{self.cluster.dashboard}/api/jobs/", timeout=10) as answer:
            known = json.load(answer)
        own = [job for job in known if str(job["submission_id"]).startswith(f"{job_id}-")]
        newest = max(own, key=lambda job: int(str(job["submission_id"]).rpartition("-")[2]))
        return int(str(newest["driver_agent_http_address"]).rpartition(":")[0].rpartition(".")[2])

    def pause_service(self, seconds: float) -> None:
        """The service's process stands still meanwhile."""
        assert self._service is not None
        self._service.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._service.send_signal(signal.SIGCONT)

    def _wait(self, is_true: Callable[[], bool], limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while not is_true():
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {limit_s} s: {self.folder / 'service.log'}")
            time.sleep(0.3)


def outcome_of(target: ClusterTarget, job_id: str) -> Outcome:
    """As kills_outcome.outcome_of, from whatever blob store; all events, since a job may have more than a page."""
    jobs = target.client.fine_tuning.jobs
    job = jobs.retrieve(job_id)
    messages = Counter(event.message for event in jobs.list_events(job_id, limit=100))
    store, files = target.store, {}
    keys = [blob.key for blob in store.stored("")]
    for checkpoint in jobs.checkpoints.list(job_id):
        for key in sorted(key for key in keys if f"checkpoints/{checkpoint.id}/" in key):
            content = b"".join(store.open(key)).replace(job_id.encode(), b"JOB")
            name = key.rpartition("/")[2]
            files[f"step {checkpoint.step_number} {name}"] = hashlib.sha256(content).hexdigest()
    steps: tuple[int, ...] = ()
    for file_id in job.result_files:
        content = target.client.files.content(file_id).read()
        if content.startswith(b"step,"):
            files["results.csv"] = hashlib.sha256(content).hexdigest()
            steps = tuple(int(line.split(b",")[0]) for line in content.splitlines()[1:])
    status = str(job.status) if job.error is None or not job.error.code else f"{job.status}: {job.error.message}"
    return Outcome(status, files, steps, messages)
