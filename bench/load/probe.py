"""Health as another client sees it: a process of its own that asks every 20 ms, each time on a new connection."""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from bench.load import wire
from bench.process import ROOT

INTERVAL_S = 0.02
PATIENCE_S = 30.0
"""What has not answered by then is counted as so long, and as failed."""


@dataclass(slots=True)
class Health:
    """Seconds until each answer, in the order of asking, and how many were none."""

    each_s: list[float] = field(default_factory=list)
    failed: int = 0

    def percentile_ms(self, share: float) -> float:
        """The value that a share of the answers does not exceed; infinite where nothing was asked."""
        ordered = sorted(self.each_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 if ordered else float("inf")


@contextmanager
def watching(port: int) -> Iterator[Health]:
    """Fills what it gives when the block is left."""
    health = Health()
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.load.probe", str(port)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()  # it has begun
    try:
        yield health
    finally:
        told, _ = process.communicate()  # closes its input, which ends it
        found = json.loads(told)
        health.each_s, health.failed = found["each_s"], found["failed"]


async def _probe(port: int) -> Health:
    health = Health()
    loop = asyncio.get_running_loop()
    ended = loop.run_in_executor(None, sys.stdin.read)
    print("begun", flush=True)
    while not ended.done():
        began = time.perf_counter()
        try:
            asked = wire.ask(port, "GET", "/healthz", source=wire.HOST)
            status = (await asyncio.wait_for(asked, PATIENCE_S)).status
        except TimeoutError:
            status = 0
        seconds = time.perf_counter() - began
        health.each_s.append(seconds)
        health.failed += status != 200
        await asyncio.sleep(max(0.0, INTERVAL_S - seconds))
    return health


if __name__ == "__main__":
    found = asyncio.run(_probe(int(sys.argv[1])))
    print(json.dumps({"each_s": found.each_s, "failed": found.failed}))
