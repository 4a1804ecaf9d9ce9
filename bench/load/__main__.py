"""`make bench-load`: each scenario against a real service, what everybody else saw meanwhile, and its SIGTERM.

With `--before REV` the same against that commit too, in turn, so that one machine gives both figures.
"""

import argparse
import asyncio
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.load import chats, connections, figures, jobs, probe, schemas, target
from bench.load.figures import Figures, Memory
from bench.load.probe import Health
from bench.load.target import Service, Target
from bench.process import ROOT

SETTLE_S = 5.0
UNDER_WAY_S = 2.0
"""So long after the load has begun again SIGTERM comes."""

Load = Callable[[Service, int], Awaitable[Figures]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of load, and how many of it at once."""

    name: str
    load: Load
    size: int


SCENARIOS = (
    Scenario("chat streams", chats.streams, 200),
    Scenario("callers that hang up", chats.hang_ups, 200),
    Scenario("slow readers", chats.slow_readers, 32),
    Scenario("long streams beside another resource", chats.long_streams, 6),
    Scenario("silent uploads", connections.silent_uploads, 45),
    Scenario("silent uploads", connections.silent_uploads, 500),
    Scenario("half heads", connections.half_heads, 1200),
    Scenario("bodies of 31 MiB without a key", connections.keyless_bodies, 40),
    Scenario("jobs at once", jobs.creations, 1000),
    Scenario("event streams", jobs.event_streams, 300),
    Scenario("odd schemas", schemas.odd_schemas, 54),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One scenario against one checkout."""

    figures: Figures
    health: Health
    memory: Memory
    settled_mib: float
    stop_s: float


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="luthier-load-") as name, _checkouts(options.before, Path(name)) as all_of:
        folder = options.folder or Path(name)
        targets = [Target(label, checkout, folder / label) for label, checkout in all_of.items()]
        for each in targets:
            each.prepare()
        for scenario in SCENARIOS:
            if options.only and not any(word in scenario.name for word in options.only):
                continue
            for each in targets:
                size = max(1, scenario.size // options.divide)
                _print(scenario, size, each.name, _measured(each, scenario, size))


def _measured(checkout: Target, scenario: Scenario, size: int) -> Measured:
    with checkout.running() as service:
        with figures.memory_of(service) as memory, probe.watching(service.port) as health:
            found = asyncio.run(_whole(scenario.load(service, size)))
        settled = figures.settle(service, SETTLE_S)
        stop_s = asyncio.run(_stopped_under(scenario.load(service, size), service))
        return Measured(found, health, memory, settled, stop_s)


async def _whole(load: Awaitable[Figures]) -> Figures:
    return await load


async def _stopped_under(load: Awaitable[Figures], service: Service) -> float:
    under_way = asyncio.ensure_future(load)
    await asyncio.sleep(UNDER_WAY_S)
    seconds = await asyncio.to_thread(target.stop_s, service)
    under_way.cancel()
    with suppress(asyncio.CancelledError, Exception):  # what the load makes of a service that is gone is no figure
        await under_way
    return seconds


def _print(scenario: Scenario, size: int, checkout: str, measured: Measured) -> None:
    outcomes = ", ".join(f"{count} {how}" for how, count in measured.figures.outcomes.most_common())
    values = "; ".join(f"{name}: {value:.2f}" for name, value in measured.figures.values.items())
    health, memory = measured.health, measured.memory
    print(
        f"| {size} {scenario.name} | {checkout} | {outcomes or '-'} | {values or '-'} "
        f"| {health.percentile_ms(0.5):.0f} / {health.percentile_ms(0.99):.0f} / {health.percentile_ms(1):.0f}, "
        f"{health.failed} failed | {memory.before:.0f} / {memory.peak:.0f} / {measured.settled_mib:.0f}, "
        f"engine {memory.engine_peak:.0f} | {measured.stop_s:.1f} |",
        flush=True,
    )


@contextmanager
def _checkouts(before: str | None, folder: Path) -> Iterator[dict[str, Path]]:
    """By name: this working tree, and a commit's tree before it."""
    if before is None:
        yield {"now": ROOT}
        return
    tree = folder / "before-tree"
    tree.mkdir()
    archive = subprocess.run(["git", "archive", before, "src"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(tree)], input=archive, check=True)
    yield {"before": tree, "now": ROOT}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--before", help="a commit to measure beside this tree")
    parser.add_argument("--only", nargs="*", help="words of the scenarios' names")
    parser.add_argument("--divide", type=int, default=1, help="every number of the scenarios by this")
    parser.add_argument("--folder", type=Path, help="where prepared data folders stay for the next call")
    options = parser.parse_args()
    print("| load | checkout | outcomes | figures | healthz p50 / p99 / max ms | memory MiB | SIGTERM s |")
    print("|---|---|---|---|---|---|---|")
    return options


if __name__ == "__main__":
    main()
