"""Requests and tokens a minute, by deployment: counted in memory over the last sixty seconds, to the request."""

import math
import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from luthier.core.errors import RateLimited
from luthier.core.models import Deployment

WINDOW = timedelta(seconds=60)
AZURE_TOKENS_PER_CAPACITY = 1000
"""A unit of sku capacity is a thousand tokens a minute (contract section 14), and allows six requests."""
REQUESTS_PER_1000_TOKENS = 6
CHARACTERS_PER_TOKEN = 4
"""Azure estimates a prompt by its characters, for a rate must be known before the prompt is read."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What may be asked in a minute."""

    tokens: int

    @property
    def requests(self) -> int:
        return max(1, self.tokens * REQUESTS_PER_1000_TOKENS // 1000)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of a limit, and in how many seconds all of it is back."""

    limit: Limit
    requests: int
    tokens: int
    reset_s: float


@dataclass(slots=True)
class _Window:
    """The requests of the last minute, oldest first, and the sum of their tokens."""

    admitted: deque["Admission"] = field(default_factory=deque)
    tokens: int = 0

    def drop_before(self, time: datetime) -> None:
        while self.admitted and self.admitted[0].at <= time:
            old = self.admitted.popleft()
            self.tokens -= old.tokens
            old.window = None


@dataclass(slots=True, eq=False)
class Admission:
    """A request that was let in; `tokens` are estimated until it is settled, `window` is None once it has left it."""

    at: datetime
    tokens: int
    window: _Window | None


class RateLimits:
    """The windows of everything that has a limit.

    One unit of a deployment's sku capacity stands for `tokens_per_capacity` tokens a minute, 0 for no limit at all;
    `model_tokens` limit each model that is called without a deployment, by resource. As on Azure, tokens are counted
    before they are spent: the prompt's and the most that the answer may have. A request is let in while the count is
    below the limit, so that a single one may be larger than it; `settle` puts what was truly used in the place of the
    estimate.
    """

    def __init__(self, tokens_per_capacity: int = 0, model_tokens: int | None = None) -> None:
        self._tokens_per_capacity = tokens_per_capacity
        self._model_tokens = model_tokens
        self._windows: dict[str, _Window] = {}
        self._lock = threading.Lock()

    def limit_of(self, deployment: Deployment | None) -> Limit | None:
        """The limit of a deployment, or of a model called without one; None where there is none."""
        if deployment is None:
            return None if self._model_tokens is None else Limit(self._model_tokens)
        tokens = deployment.sku_capacity * self._tokens_per_capacity
        return Limit(tokens) if tokens else None

    def admit(self, name: str, limit: Limit, tokens: int, now: datetime) -> Admission:
        """Counts a request against `name`. Raises RateLimited, and then counts nothing."""
        with self._lock:
            window = self._window(name, now)
            if window.tokens >= limit.tokens:
                wait_s = _until_below(window, limit.tokens, now)
                raise _refused(f"token rate limit of {limit.tokens} tokens a minute", wait_s)
            if len(window.admitted) >= limit.requests:
                leaves = window.admitted[len(window.admitted) - limit.requests]
                raise _refused(f"call rate limit of {limit.requests} requests a minute", _left(leaves, now))
            admission = Admission(now, tokens, window)
            window.admitted.append(admission)
            window.tokens += tokens
            return admission

    def settle(self, admission: Admission, tokens: int) -> None:
        """Corrects the count of a request by the tokens that it used."""
        with self._lock:
            if admission.window is not None:
                admission.window.tokens += tokens - admission.tokens
                admission.tokens = tokens

    def standing(self, name: str, limit: Limit, now: datetime) -> Standing:
        with self._lock:
            window = self._window(name, now)
            return Standing(
                limit,
                max(0, limit.requests - len(window.admitted)),
                max(0, limit.tokens - window.tokens),
                _left(window.admitted[-1], now) if window.admitted else 0.0,
            )

    def _window(self, name: str, now: datetime) -> _Window:
        window = self._windows.setdefault(name, _Window())
        window.drop_before(now - WINDOW)
        return window


def estimate(characters: int, token_ids: int, max_tokens: int | None, answers: int) -> int:
    """Tokens that a request may need: its prompt's, and for each answer the most that the caller allowed it."""
    return math.ceil(characters / CHARACTERS_PER_TOKEN) + token_ids + (max_tokens or 0) * answers


def _until_below(window: _Window, limit: int, now: datetime) -> float:
    """Seconds until enough tokens have left the window for a request to be let in."""
    tokens, wait_s = window.tokens, 0.0
    for admission in window.admitted:
        if tokens < limit:
            break
        tokens -= admission.tokens
        wait_s = _left(admission, now)
    return wait_s


def _left(admission: Admission, now: datetime) -> float:
    """Seconds until a request leaves the window."""
    return max(0.0, (admission.at + WINDOW - now).total_seconds())


def _refused(limit: str, wait_s: float) -> RateLimited:
    seconds = math.ceil(wait_s)
    return RateLimited(
        "rate_limit_exceeded",
        f"Requests to this deployment have exceeded the {limit}. Please retry after {seconds} "
        f"second{'' if seconds == 1 else 's'}, or raise the deployment's sku capacity.",
        wait_s,
    )
