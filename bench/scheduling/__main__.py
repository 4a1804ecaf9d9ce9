"""10,000 queued jobs of 1,000 tenants on 200 simulated nodes, to the end: what a tick takes, who waits for how long.

Store, queue, placement, claims, events and results are the real ones, on a disk; only nodes, trainers and the clock are
simulated. A row of the table for each size of the queue.
"""

import argparse
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from bench.scheduling import queue_rows
from bench.scheduling.cluster import SimulatedCluster
from luthier.core.states import JobStatus
from luthier.core.training.executor_port import NodeRoom
from luthier.core.training.rank_plan import ONE_RANK
from luthier.service.background.run_control.run_control import RunControl
from luthier.store.queries import jobs

PASS_S = 30.0
"""Simulated seconds between two ticks."""


@dataclass
class Outcome:
    """What one simulation has shown; ticks by the clock and by processor time, waits in simulated seconds."""

    ticks_s: list[float] = field(default_factory=list)
    computed_s: list[float] = field(default_factory=list)
    waits_s: dict[str, list[float]] = field(default_factory=dict)
    rss_bytes: list[int] = field(default_factory=list)
    most_running: int = 0
    heavy: set[str] = field(default_factory=set)
    makespan_s: float = 0.0

    def row(self, n_jobs: int, n_tenants: int) -> str:
        light, heavy = ([*self._waits(True)], [*self._waits(False)])
        first = sorted(min(waits) for waits in self.waits_s.values())
        quarter = len(self.rss_bytes) // 4
        cells = [
            f"{n_jobs:,}",
            f"{n_tenants:,}",
            f"{len(self.ticks_s):,}",
            _times(self.ticks_s),
            _times(self.computed_s),
            f"{first[-1] / 60:.0f}",
            f"{statistics.mean(light) / 60:.0f} / {max(light) / 60:.0f}",
            f"{statistics.mean(heavy) / 60:.0f} / {max(heavy) / 60:.0f}",
            f"{self.most_running}",
            f"{self.rss_bytes[quarter] / 2**20:.0f} / {self.rss_bytes[-1] / 2**20:.0f}",
            f"{self.makespan_s / 3600:.1f}",
        ]
        return f"| {' | '.join(cells)} |"

    def _waits(self, light: bool) -> "list[float]":
        return [wait for tenant, waits in self.waits_s.items() if (tenant not in self.heavy) is light for wait in waits]


HEAD = """| jobs | tenants | ticks | a tick, ms: median / p99 / most | of it computed | \
longest wait for a first start, min | wait of a light tenant's job, min: mean / most | of a heavy one's | \
most of one tenant at once | RSS, MiB: after a quarter / at the end | simulated h |
|---|---|---|---|---|---|---|---|---|---|---|"""


def _times(seconds: Sequence[float]) -> str:
    """Median, 99th percentile and maximum in milliseconds."""
    ms = sorted(1000 * one for one in seconds)
    return f"{statistics.median(ms):.0f} / {ms[int(len(ms) * 0.99)]:.0f} / {ms[-1]:.0f}"


def nodes(n_nodes: int) -> list[NodeRoom]:
    """Three quarters with eight CPUs, a quarter with four GPUs beside them."""
    return [
        NodeRoom(f"node-{number:03}", cpus=8, gpus=4 if number % 4 == 0 else 0, memory_bytes=None)
        for number in range(n_nodes)
    ]


def simulate(folder: Path, n_jobs: int, n_tenants: int, n_nodes: int) -> Outcome:
    """Ticks until every job has succeeded."""
    clock = [datetime(2026, 12, 1, tzinfo=UTC)]
    begin = clock[0]
    context = queue_rows.make_context(folder, clock)
    outcome = Outcome(heavy=queue_rows.fill(context, n_jobs, n_tenants))
    with context.database.reading() as tx:
        owners = {job.id: job.resource_id for job in jobs.list_in(tx, [JobStatus.QUEUED])}
    running: Counter[str] = Counter()

    def started(run: Path) -> None:
        outcome.waits_s.setdefault(owners[run.name], []).append((clock[0] - begin).total_seconds())

    cluster = SimulatedCluster(nodes(n_nodes), lambda: clock[0], started)
    control = RunControl(context, cluster, None, 60.0, ONE_RANK, lambda: False, lambda: None)
    process = psutil.Process()
    left = n_jobs
    while left:
        begun, computed = time.perf_counter(), time.process_time()
        control.tick()
        outcome.computed_s.append(time.process_time() - computed)
        outcome.ticks_s.append(time.perf_counter() - begun)
        clock[0] += timedelta(seconds=PASS_S)
        if len(outcome.ticks_s) % 20 == 0:
            outcome.rss_bytes.append(process.memory_info().rss)
            with context.database.reading() as tx:
                running = Counter(job.resource_id for job in jobs.list_in(tx, [JobStatus.RUNNING]))
                left = sum(jobs.count_open(tx).values())
            outcome.most_running = max([outcome.most_running, *running.values()])
            if len(outcome.ticks_s) % 100 == 0:
                print(f"  {left:,} open, {cluster.busy} run, tick {1000 * outcome.ticks_s[-1]:.0f} ms", flush=True)
    outcome.makespan_s = (clock[0] - begin).total_seconds()
    assert sum(map(len, outcome.waits_s.values())) == n_jobs, "every job was started once"
    context.database.close()
    return outcome


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--nodes", type=int, default=200)
    options = parser.parse_args(argv)
    rows = [HEAD]
    for n_jobs in options.jobs:
        with tempfile.TemporaryDirectory(prefix="luthier-scheduling-") as folder:
            n_tenants = max(1, n_jobs // 10)
            rows.append(simulate(Path(folder), n_jobs, n_tenants, options.nodes).row(n_jobs, n_tenants))
        print("\n".join(rows), flush=True)


if __name__ == "__main__":
    main()
