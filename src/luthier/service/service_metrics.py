"""What the service measures of itself, for Prometheus: requests and answers as they come, the rest when it is asked.

Names begin with `luthier_`, units are seconds and bytes, and no label has a value that a caller chooses: a series is
never made by a request. docs/metrics.md lists them.
"""

from collections import Counter as Tally
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import prometheus_client
import psutil
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from luthier import __version__
from luthier.core.errors import NotFound
from luthier.core.inference.generation import Usage
from luthier.core.states import LoadState
from luthier.service import status
from luthier.service.context import Context
from luthier.service.models import deployments, models
from luthier.service.models.serving_port import ServedModels
from luthier.service.tenants import resources
from luthier.store.queries.inference import state_counts

REQUEST_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
FIRST_TOKEN_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 60.0)
STEP_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 150.0)
CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST


class ServiceMetrics:
    """The counters and histograms of one process. Safe to use from several threads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Histogram(
            "luthier_request_seconds",
            "Time from a request's head to the last byte of its answer, by the route's template.",
            ("method", "route", "status"),
            buckets=REQUEST_BUCKETS_S,
            registry=self.registry,
        )
        self._first_token = Histogram(
            "luthier_first_token_seconds",
            "Time from a prompt's way to its engine to the first part of the answer, the wait for a slot included.",
            ("priority",),
            buckets=FIRST_TOKEN_BUCKETS_S,
            registry=self.registry,
        )
        self._tokens = Counter(
            "luthier_tokens",
            "Tokens of prompts that were computed, of prompts that were cached, and of answers.",
            ("kind", "priority"),
            registry=self.registry,
        )
        self._steps = Histogram(
            "luthier_training_step_seconds",
            "Forward, backward and optimizer of a training step, as its trainer measured them.",
            buckets=STEP_BUCKETS_S,
            registry=self.registry,
        )
        self._step_tokens = Counter(
            "luthier_training_tokens", "Tokens of the training steps that were counted.", registry=self.registry
        )
        prometheus_client.ProcessCollector(registry=self.registry)

    def observe_request(self, method: str, route: str, status_code: int, seconds: float) -> None:
        """Counts a request; `route` is a template of ours, never a path."""
        self._requests.labels(method, route, str(status_code)).observe(seconds)

    def observe_first_token(self, seconds: float, is_background: bool) -> None:
        """Counts an answer that has begun."""
        self._first_token.labels(_priority(is_background)).observe(seconds)

    def count_tokens(self, usage: Usage, is_background: bool) -> None:
        """Counts the tokens of a complete answer."""
        priority = _priority(is_background)
        self._tokens.labels("prompt", priority).inc(usage.prompt_tokens - usage.cached_tokens)
        self._tokens.labels("cached_prompt", priority).inc(usage.cached_tokens)
        self._tokens.labels("answer", priority).inc(usage.completion_tokens)

    def observe_step(self, seconds: float, tokens: int) -> None:
        """Counts a step of a trainer."""
        self._steps.observe(seconds)
        self._step_tokens.inc(tokens)

    def text(self) -> bytes:
        """All series in Prometheus's text format; what `watch` was given is read now."""
        return prometheus_client.generate_latest(self.registry)

    def watch(self, context: Context, n_waiting: Callable[[], int], serving: ServedModels) -> None:
        """Adds the gauges that are read when somebody asks; `n_waiting` counts the answers that wait for a slot."""
        self.registry.register(_Gauges(context, n_waiting, serving))


@dataclass(frozen=True, slots=True, eq=False)  # the registry hashes it, and a context is not hashable
class _Gauges(Collector):
    """The states of jobs and the like, of engines and of the machine, as they are when somebody asks."""

    context: Context
    n_waiting: Callable[[], int]
    serving: ServedModels

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: their names are known without a look at the database."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges now."""
        with self.context.database.reading() as tx:
            counts = state_counts.by_state(tx)
            trained = state_counts.trained_tokens(tx)
        for noun, states in counts.items():
            yield _by_state(noun, f"How many {noun.replace('_', ' ')} of all resources are in each state.", states)
        loaded = _load_states(self.context, self.serving)
        yield _by_state("served_deployments", "What the engines have of the models of deployments.", loaded)
        yield GaugeMetricFamily("luthier_trained_tokens", "Tokens that the listed jobs have trained on.", trained)
        yield GaugeMetricFamily("luthier_answers_waiting", "Answers that wait for a slot.", self.n_waiting())
        yield GaugeMetricFamily(
            "luthier_engine_faults", "Models that should answer and do not.", len(self.serving.faults())
        )
        machine = status.machine(self.context.data_folder)
        children = sum(_resident_bytes(child) for child in psutil.Process().children(recursive=True))
        yield GaugeMetricFamily("luthier_disk_bytes", "Size of the data folder's disk.", machine.disk_bytes)
        yield GaugeMetricFamily(
            "luthier_disk_free_bytes", "Free bytes of the data folder's disk.", machine.disk_free_bytes
        )
        yield GaugeMetricFamily("luthier_memory_free_bytes", "Memory that is available.", machine.memory_free_bytes)
        yield GaugeMetricFamily(
            "luthier_children_resident_bytes", "Resident memory of trainers, engines and helpers.", children
        )
        build = GaugeMetricFamily("luthier_build_info", "Always 1; the version is a label.", labels=["version"])
        build.add_metric([__version__], 1)
        yield build


def _by_state(noun: str, words: str, states: dict[str, int]) -> GaugeMetricFamily:
    """A gauge with a series for each state."""
    gauge = GaugeMetricFamily(f"luthier_{noun}", words, labels=["state"])
    for state, count in states.items():
        gauge.add_metric([state], count)
    return gauge


def _load_states(context: Context, serving: ServedModels) -> dict[str, int]:
    """How many deployments of all resources have a model that is loaded, rests, and so on; loads nothing."""
    counts: Tally[LoadState] = Tally()
    for resource, _ in resources.list_all(context):
        for deployment in deployments.list_all(context, resource.id):
            try:
                if (name := deployment.served_model) is not None:
                    counts[serving.state(models.get(context, resource.id, name)).state] += 1
            except NotFound:
                continue  # the model was deleted meanwhile
    return {str(state): counts[state] for state in LoadState}


def _priority(is_background: bool) -> str:
    return "background" if is_background else "live"


def _resident_bytes(process: psutil.Process) -> int:
    """The resident memory of a process; 0 for one that has just ended."""
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
