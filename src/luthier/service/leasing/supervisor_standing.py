"""What `luthier supervise` can say of itself: whether it has the lease, passes of its loops, runs that it follows."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


@dataclass(slots=True)
class SupervisorStanding:
    """Written by the process's event loop, read by any thread. Without a token it stands by."""

    fencing_token: int | None = None
    passes: Callable[[], Mapping[str, int]] = dict
    """How many passes of each loop have ended."""
    followed_runs: Callable[[], int] = lambda: 0

    def register(self, registry: CollectorRegistry) -> None:
        """Adds its series to a process's metrics."""
        registry.register(_Series(self))


@dataclass(frozen=True, slots=True, eq=False)  # the registry hashes it
class _Series(Collector):
    """The series as they are when somebody asks."""

    standing: SupervisorStanding

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing, as the names are known without a look."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """The series now."""
        token = self.standing.fencing_token
        yield GaugeMetricFamily(
            "luthier_supervisor_lease_held",
            "1 in the holder of the supervisor's lease.",
            int(token is not None),
        )
        yield GaugeMetricFamily(
            "luthier_supervisor_fencing_token", "The token of the lease that is held; 0 for none.", token or 0
        )
        yield GaugeMetricFamily(
            "luthier_supervisor_followed_runs", "Runs that this supervisor follows.", self.standing.followed_runs()
        )
        passes = CounterMetricFamily(
            "luthier_supervisor_passes", "Passes of each loop that have ended.", labels=["loop"]
        )
        for loop, count in self.standing.passes().items():
            passes.add_metric([loop], count)
        yield passes
