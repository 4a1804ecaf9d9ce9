"""What routes need, as one value that `app.py` makes and each `build_router` and `add_routes` is given."""

from collections.abc import Callable
from dataclasses import dataclass, field

from luthier.api.auth.revocation import Rights
from luthier.api.intake.body_limits import Intake
from luthier.api.streaming.event_feed import EventFeed
from luthier.core.ports import SpanSource
from luthier.core.states import ResultsAs
from luthier.grammars.grammar_checker import GrammarChecker
from luthier.service.context import Context
from luthier.service.files.file_checks import FileChecks
from luthier.service.inference.generation import Generation
from luthier.service.job_views.answer_cache import AnswerCache
from luthier.service.job_views.metrics_cache import MetricsCache
from luthier.service.models.deployment_expiry import Lifetimes
from luthier.service.models.deployment_traffic import DeploymentTraffic
from luthier.service.models.serving_port import ServedModels
from luthier.service.scheduling.calls_port import AnswerCalls
from luthier.service.service_metrics import ServiceMetrics
from luthier.service.tenants.rate_limits import RateLimits
from luthier.service.webhooks.sample_events import SampleSender


@dataclass(frozen=True, slots=True)
class Services:
    """The service behind one application: the use cases' context, engines, limits, and the requests in progress.

    One for each process; `app.py` gives it the values of the settings.
    """

    context: Context
    serving: ServedModels
    wake: Callable[[], None]
    """Wakes the supervisor."""
    rate_limits: RateLimits = field(default_factory=RateLimits)
    event_feed: EventFeed = field(default_factory=EventFeed)
    rights: Rights = field(default_factory=Rights)
    intake: Intake = field(default_factory=Intake)
    grammars: GrammarChecker = field(default_factory=GrammarChecker)
    results_as: ResultsAs = ResultsAs.AUTO
    train_device: str = "auto"
    """Where trainers compute, as the setting says."""
    wake_batches: Callable[[], None] = lambda: None
    """Wakes the runner of batches."""
    spans: SpanSource | None = None
    """Where the spans of calls begin; None: nothing is traced."""
    metrics: ServiceMetrics = field(default_factory=ServiceMetrics)
    job_metrics: MetricsCache = field(default_factory=MetricsCache)
    """The metrics of jobs that were asked for lately."""
    metrics_answers: AnswerCache = field(default_factory=AnswerCache)
    """What charts were answered lately: a chart of many steps is reduced once, not for each page that shows it."""
    samples: SampleSender = field(default_factory=SampleSender)
    """Sends sample events of webhooks."""
    traffic: DeploymentTraffic = field(default_factory=DeploymentTraffic)
    """What each deployment has answered since the start."""
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    """After how long deployments are deleted, for whoever shows it."""
    file_checks: FileChecks = field(default_factory=FileChecks)
    """The latest checks of training files."""
    process: str | None = None
    """The name of this process's lease; None: no other process works on what this one leaves."""
    calls: AnswerCalls = field(kw_only=True)

    @property
    def generation(self) -> Generation:
        """A new value over the shared context, engine calls and grammars; it holds no state of its own."""
        return Generation(self.context, self.calls, self.grammars, self.metrics, self.traffic)
