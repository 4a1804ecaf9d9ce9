"""What a scenario is told by: how its requests ended, figures of its own, and what the rest of the world saw."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psutil

from bench.load.target import Service

SAMPLE_S = 0.05


@dataclass(slots=True)
class Figures:
    """`outcomes` counts how requests ended; `values` holds what is particular to the scenario."""

    outcomes: Counter[str]
    values: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Memory:
    """Resident MiB of the service and of its engines: at first, at most, and at the end."""

    before: float = 0.0
    peak: float = 0.0
    after: float = 0.0
    engine_peak: float = 0.0


@contextmanager
def memory_of(service: Service) -> Iterator[Memory]:
    """Samples while the block runs; `after` is taken when it is left."""
    memory = Memory(before=service.rss_mib())
    ended = threading.Event()

    def sample() -> None:
        engines = service.engines()
        while not ended.wait(SAMPLE_S):
            memory.peak = max(memory.peak, service.rss_mib())
            alive = [engine for engine in engines if engine.is_running()]
            try:
                memory.engine_peak = max(memory.engine_peak, sum(e.memory_info().rss for e in alive) / 2**20)
            except psutil.NoSuchProcess:
                engines = service.engines()

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        ended.set()
        thread.join()
        memory.after = service.rss_mib()


def settle(service: Service, seconds: float) -> float:
    """The service's resident MiB when nobody has asked for anything for so long."""
    time.sleep(seconds)
    return service.rss_mib()
