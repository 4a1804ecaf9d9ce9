"""Fifty faults over twenty jobs on a Ray cluster of three nodes, with PostgreSQL and an object store behind it all.

    make bench-cluster                     root, Debian's postgresql, and `make test-ray` once
    python -m bench.cluster.faults --jobs 4 --faults 8 --seed 3

A node or the head is killed, a node's link is cut for 90 seconds, the service is killed or stands still for two
leases, PostgreSQL crashes. Each job must end in the bytes of the same job on one machine, every event told once. An
exit status of 1 says that one did not.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import openai

import postgres
from bench.cluster import ray_cluster
from bench.cluster.cluster_jobs import LEASE_S, ClusterTarget, outcome_of
from bench.cluster.overhead import MODELS, VENV
from bench.cluster.ray_cluster import HEAD, WORKERS, Moto, RayCluster
from bench.kills_outcome import Outcome, same
from bench.kills_target import KINDS

T = TypeVar("T")

KIND = KINDS["tiny, long"]
CUT_S = 90.0
OPEN_JOBS = 3
"""So many jobs wait or run at once: fewer than the cluster holds, so that a lost node leaves room."""
WRONG = "scheduler is wrong"


@dataclass
class Campaign:
    """The service, its cluster and its database, and what has been done to them."""

    target: ClusterTarget
    cluster: RayCluster
    database: postgres.Server
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)
    cut_node: int | None = None
    jobs: list[str] = field(default_factory=list)

    def run(self, n_jobs: int, n_faults: int) -> None:
        """Creates the jobs as the faults go on, so that each fault meets some that train."""
        kinds: list[Callable[[], None]] = [
            self.kill_worker,
            self.cut_link,
            self.kill_head,
            self.kill_service,
            self.pause_service,
            self.crash_database,
        ]
        for number in range(n_faults):
            while len(self.jobs) < min(n_jobs, 1 + number * n_jobs // n_faults) or not self._open():
                self.jobs.append(self._patiently(lambda: self.target.create(KIND)))
            time.sleep(self.chance.uniform(2.0, 8.0))
            fault = kinds[number % len(kinds)] if number < len(kinds) else self.chance.choice(kinds)
            fault()
            self.done[fault.__name__] += 1
            sys.stdout.write(f"{number + 1:3} {fault.__name__:16} open jobs {len(self._open())}\n")
            sys.stdout.flush()
        while len(self.jobs) < n_jobs:
            self.jobs.append(self._patiently(lambda: self.target.create(KIND)))

    def kill_worker(self) -> None:
        """A power cut of a node that is not cut off already, and its return."""
        node = self.chance.choice([node for node in WORKERS if node != self.cut_node])
        self.cluster.kill(node)
        self.cluster.start_worker(node)

    def cut_link(self) -> None:
        """Packets to and from a node vanish for CUT_S seconds; one node at a time."""
        if self.cut_node is not None:
            return self.kill_worker()
        node = self.cut_node = self.chance.choice(WORKERS)
        self.cluster.cut(node)

        def heal() -> None:
            self.cluster.heal(node)
            self.cut_node = None

        threading.Timer(CUT_S, heal).start()
        return None

    def kill_head(self) -> None:
        self.cluster.kill(HEAD)
        self.cluster.start_head()

    def kill_service(self) -> None:
        self.target.kill_service()
        self.target.start_service()

    def pause_service(self) -> None:
        self.target.pause_service(2 * LEASE_S)

    def crash_database(self) -> None:
        """A crash of all of the server's processes, and its start."""
        self.database.stop(signal.SIGQUIT)
        time.sleep(self.chance.uniform(0.0, 3.0))
        self.database.start()

    def wait_for_all(self) -> None:
        for job_id in self.jobs:
            self._patiently(partial(self.target.wait_for_end, job_id, 1200))

    def wrong_words(self) -> int:
        """How often Ray called a run ended whose heart still beat, as the service has logged."""
        return (self.target.folder / "service.log").read_text().count(WRONG)

    def _open(self) -> list[str]:
        return self._patiently(self.target.open_jobs)[:OPEN_JOBS]

    def _patiently(self, call: Callable[[], T]) -> T:
        """The result of a call that a fault may make fail for a while."""
        deadline = time.monotonic() + 180
        while True:
            try:
                return call()
            except openai.APIError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)


def calm_outcome(folder: Path) -> Outcome:
    """What the job ends in on one machine, undisturbed."""
    folder.mkdir()
    local = ClusterTarget(folder, MODELS)
    local.prepare()
    try:
        job_id = local.create(KIND)
        local.wait_for_end(job_id)
        return outcome_of(local, job_id)
    finally:
        local.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if (reason := ray_cluster.missing(VENV) or postgres.missing()) is not None:
        sys.stderr.write(f"{reason}\n")
        return 1
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that the cluster is taken down
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calm = calm_outcome(folder / "local")
        moto = Moto(VENV / "bin" / "python", "10.77.0.1")
        os.environ.update(moto.environment)
        database = postgres.Server.create(fsync="on", full_page_writes="on", synchronous_commit="on")
        os.environ["LUTHIER_DATABASE_URL"] = database.url(database.create_database())
        nodes = {"LUTHIER_MODELS_DIR": str(folder / "service" / "models")}
        with RayCluster(folder, VENV, moto.environment | nodes) as cluster, moto:
            (folder / "service").mkdir()
            target = ClusterTarget(folder / "service", MODELS, cluster, moto)
            target.prepare()
            campaign = Campaign(target, cluster, database, random.Random(asked.seed))
            try:
                campaign.run(asked.jobs, asked.faults)
                campaign.wait_for_all()
                differing = {job_id: same(outcome_of(target, job_id), calm) for job_id in campaign.jobs}
                wrong_words = campaign.wrong_words()
            finally:
                target.close()
                database.remove()
    faults = ", ".join(f"{count} {name}" for name, count in sorted(campaign.done.items()))
    bad = {job_id: words for job_id, words in differing.items() if words}
    sys.stdout.write(f"{len(differing)} jobs, {sum(campaign.done.values())} faults ({faults})\n")
    sys.stdout.write(
        f"not as on one machine: {bad or 'none'}; Ray's wrong verdicts: {wrong_words}; "
        f"starts of Ray that failed: {cluster.failed_starts}\n"
    )
    sys.stdout.write(f"{time.monotonic() - began:.0f} s\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
