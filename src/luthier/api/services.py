"""What routes are given: the use cases' context, the models that answer, and the bell of the supervisor."""

from collections.abc import Callable
from dataclasses import dataclass, field

from luthier.service.context import Context
from luthier.service.rate_limits import RateLimits
from luthier.service.serving import Serving


@dataclass(frozen=True, slots=True)
class Services:
    context: Context
    serving: Serving
    wake: Callable[[], None]
    """Tells the supervisor that there is something to do."""
    rate_limits: RateLimits = field(default_factory=RateLimits)
