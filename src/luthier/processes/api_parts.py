"""What answers requests: engines, calls of them, limits, and the services of the routes."""

from collections.abc import Callable
from dataclasses import dataclass, field

from luthier import serving_engines
from luthier.api.intake import body_limits
from luthier.api.intake.body_limits import Intake
from luthier.api.services import Services
from luthier.core.ports import SpanSource
from luthier.engines.hosts.host_client import HttpHostClient
from luthier.engines.parity import check_parity
from luthier.grammars.grammar_checker import GrammarChecker
from luthier.processes import shared_parts
from luthier.processes.shared_parts import SharedParts
from luthier.service.context import Context
from luthier.service.models.hosting.host_directory import HostDirectory
from luthier.service.models.hosting.hosted_serving import HostedServing
from luthier.service.models.serving import Serving
from luthier.service.models.serving_port import ServedModels
from luthier.service.scheduling.calls_port import AnswerCalls
from luthier.service.scheduling.hosted_calls import HostedCalls
from luthier.service.service_metrics import ServiceMetrics
from luthier.service.tenants.rate_grants import GrantKeeper, RateGrants
from luthier.service.tenants.rate_limits import RateLimits
from luthier.service.webhooks import signing_secrets
from luthier.settings import Settings


@dataclass(frozen=True, slots=True)
class Engines:
    """What answers for models: engines of this process, or hosts. `close` is the end of it, after that of `calls`."""

    serving: ServedModels
    calls: AnswerCalls
    close: Callable[[], None]
    metrics: ServiceMetrics = field(default_factory=ServiceMetrics)


@dataclass(frozen=True, slots=True)
class Wakes:
    """What a request wakes; in a process without a supervisor nothing: that one looks at the database at each tick."""

    supervisor: Callable[[], None] = lambda: None
    batches: Callable[[], None] = lambda: None


def build_engines(shared: SharedParts) -> Engines:
    """The engines of the settings, or the calls of hosts; no process of one starts.

    Raises ValueError for vLLM options that cannot be read, and Unavailable for a key's file that holds something else.
    """
    settings, context = shared.settings, shared.context
    if settings.engines == "hosts":
        client = HttpHostClient(engine_host_key(shared))
        directory = HostDirectory(shared.database, context.elapsed_s)
        serving = HostedServing(directory, client, settings.serve_engine)
        return Engines(serving, HostedCalls(client, directory.note_gone), client.close_now)
    engine = serving_engines.build_engine(settings)
    own = Serving(context, engine, check_parity)
    return Engines(own, serving_engines.engine_calls(settings), engine.close)


def engine_host_key(shared: SharedParts) -> str:
    """What engine hosts and their callers share: the setting, else derived from a key of the data folder.

    Raises NoSpace, and Unavailable for a key's file that holds something else.
    """
    if shared.settings.engine_host_key is not None:
        return shared.settings.engine_host_key.get_secret_value()
    return signing_secrets.derived_key(shared.context, "engine hosts").hex()


def build_services(shared: SharedParts, engines: Engines, wakes: Wakes, context: Context | None = None) -> Services:
    """The services of one process; `context` replaces that of `shared`. Raises ValueError for traces without OTel."""
    settings = shared.settings
    return Services(
        context or shared.context,
        engines.serving,
        wakes.supervisor,
        RateLimits(settings.capacity_tokens, settings.model_tokens, _grants(shared)),
        intake=_intake(settings),
        grammars=GrammarChecker(),
        results_as=settings.openai_results,
        calls=engines.calls,
        train_device=settings.train_device,
        wake_batches=wakes.batches,
        metrics=engines.metrics,
        spans=_spans(settings),
        lifetimes=shared_parts.lifetimes(settings),
        process=shared.name,
    )


def build_grant_keeper(services: Services) -> GrantKeeper:
    """What gives unused shares of rate limits back to the other processes; without effect in one that is alone."""
    return GrantKeeper(lambda: services.rate_limits.adjust_shares(services.context.now()))


def _grants(shared: SharedParts) -> RateGrants | None:
    """This process's shares of rate limits; None where it is the only one that answers."""
    return None if shared.is_alone else RateGrants(shared.database, shared.name, shared.context.elapsed_s)


def _spans(settings: Settings) -> SpanSource | None:
    """Where spans begin, if traces are on; nothing of OpenTelemetry's SDK is imported otherwise.

    Raises ValueError if the SDK is not installed, or one of its variables cannot be read.
    """
    if not settings.traces:
        return None
    try:
        from luthier.otlp.otlp_spans import OtlpSpans
    except ModuleNotFoundError as error:
        text = f"LUTHIER_TRACES needs {error.name}, which is not installed. Run: pip install 'luthier[otel]'"
        raise ValueError(text) from error
    return OtlpSpans()


def _intake(settings: Settings) -> Intake:
    """The limits on request bodies that arrive at once, from the settings."""
    return Intake(
        body_limits.BodyLimits(
            idle_s=settings.body_timeout_s,
            grace_s=settings.body_grace_s,
            min_bytes_per_s=settings.body_min_rate,
            uploads=settings.uploads,
            uploads_per_key=settings.uploads_per_key,
            held_bytes=settings.held_body_mib * body_limits.MIB,
        )
    )
