"""What answers requests: engines, calls of them, limits, and the services of the routes."""

from collections.abc import Callable
from dataclasses import dataclass, field

from luthier import serving_engines
from luthier.api.intake import body_limits
from luthier.api.intake.body_limits import Intake
from luthier.api.services import Services
from luthier.core.ports import SpanSource
from luthier.engines.choice import ChosenEngine
from luthier.engines.parity import check_parity
from luthier.grammars.grammar_checker import GrammarChecker
from luthier.processes import shared_parts
from luthier.processes.shared_parts import SharedParts
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from luthier.service.service_metrics import ServiceMetrics
from luthier.service.tenants.rate_grants import GrantKeeper, RateGrants
from luthier.service.tenants.rate_limits import RateLimits
from luthier.settings import Settings


@dataclass(frozen=True, slots=True)
class Engines:
    """The engines of one process, and what has models loaded in them."""

    engine: ChosenEngine
    serving: Serving
    metrics: ServiceMetrics = field(default_factory=ServiceMetrics)


@dataclass(frozen=True, slots=True)
class Wakes:
    """What a request wakes; in a process without a supervisor nothing: that one looks at the database at each tick."""

    supervisor: Callable[[], None] = lambda: None
    batches: Callable[[], None] = lambda: None


def build_engines(shared: SharedParts) -> Engines:
    """The engines of the settings; no process of one starts. Raises ValueError for vLLM options that cannot be read."""
    engine = serving_engines.build_engine(shared.settings)
    return Engines(engine, Serving(shared.context, engine, check_parity))


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
        calls=serving_engines.engine_calls(settings),
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
