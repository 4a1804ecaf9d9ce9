"""Rate limits: requests and tokens per minute of a deployment, counted in memory over a sliding window of 60 s."""

import math
import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from luthier.core.errors import RateLimited
from luthier.core.models import Deployment

WINDOW = timedelta(seconds=60)
AZURE_TOKENS_PER_CAPACITY = 1000
"""A unit of sku capacity is a thousand tokens per minute (wire-contract.md section 14), and allows six requests."""
REQUESTS_PER_1000_TOKENS = 6
CHARACTERS_PER_TOKEN = 4
"""Azure estimates a prompt by its characters: the limit applies before the prompt is tokenized."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What one deployment or model may take in a minute: `tokens`, and requests in proportion."""

    tokens: int

    @property
    def requests(self) -> int:
        return max(1, self.tokens * REQUESTS_PER_1000_TOKENS // 1000)


@dataclass(frozen=True, slots=True)
class Remaining:
    """What remains of a limit, and the seconds until it is whole again, 0 if nothing is counted."""

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
        """Drops requests older than the window, and those in the future of a clock that was set back."""
        while self.admitted and not time < self.admitted[0].at <= time + 2 * WINDOW:
            oldest = self.admitted.popleft()
            self.tokens -= oldest.tokens
            oldest.window = None


@dataclass(slots=True, eq=False)
class Admission:
    """An admitted request; `tokens` are estimated until `correct`, `window` is None once the request has left it."""

    at: datetime
    tokens: int
    window: _Window | None


class RateLimits:
    """The sliding windows of all limits.

    One unit of a deployment's sku capacity is `tokens_per_capacity` tokens per minute, 0 is no limit; `model_tokens`
    limits each model that is called without a deployment, per resource. As on Azure, tokens are counted before they
    are used: those of the prompt and the maximum of the answer. A request is admitted while the count is below the
    limit, so a single one may exceed it; `correct` replaces the estimate by the usage.
    """

    def __init__(self, tokens_per_capacity: int = 0, model_tokens: int | None = None) -> None:
        self._tokens_per_capacity = tokens_per_capacity
        self._model_tokens = model_tokens
        self._windows: dict[str, _Window] = {}
        self._lock = threading.Lock()

    @property
    def unit(self) -> Limit | None:
        """What one unit of a deployment's sku capacity is; None if there is no limit."""
        return Limit(self._tokens_per_capacity) if self._tokens_per_capacity else None

    def limit_of(self, deployment: Deployment | None) -> Limit | None:
        """The limit of a deployment, or with None that of a model called without one; None if there is no limit."""
        if deployment is None:
            return None if self._model_tokens is None else Limit(self._model_tokens)
        tokens = deployment.sku_capacity * self._tokens_per_capacity
        return Limit(tokens) if tokens else None

    def admit(self, name: str, limit: Limit, tokens: int, now: datetime) -> Admission:
        """Counts a request of about `tokens` against the window `name`. Raises RateLimited, and then counts nothing."""
        with self._lock:
            window = self._window(name, now)
            if window.tokens >= limit.tokens:
                wait_s = _until_below(window, limit.tokens, now)
                raise _refused(f"token rate limit of {limit.tokens} tokens per minute", wait_s)
            if len(window.admitted) >= limit.requests:
                next_out = window.admitted[len(window.admitted) - limit.requests]
                raise _refused(f"call rate limit of {limit.requests} requests per minute", _remaining_s(next_out, now))
            admission = Admission(now, tokens, window)
            window.admitted.append(admission)
            window.tokens += tokens
            return admission

    def correct(self, admission: Admission, tokens: int) -> None:
        """Replaces the estimate of a request by the tokens that it used, unless it has left the window."""
        with self._lock:
            if admission.window is not None:
                admission.window.tokens += tokens - admission.tokens
                admission.tokens = tokens

    def remaining(self, name: str, limit: Limit, now: datetime) -> Remaining:
        """What remains at `now` of a limit, of which the window `name` counts the use."""
        with self._lock:
            window = self._window(name, now)
            return Remaining(
                limit,
                max(0, limit.requests - len(window.admitted)),
                max(0, limit.tokens - window.tokens),
                _remaining_s(window.admitted[-1], now) if window.admitted else 0.0,
            )

    def _window(self, name: str, now: datetime) -> _Window:
        """The window of that name, new if there is none, without the requests that are older than a minute."""
        window = self._windows.setdefault(name, _Window())
        window.drop_before(now - WINDOW)
        return window


def estimate(characters: int, token_ids: int, max_tokens: int | None, answers: int) -> int:
    """The tokens that a request may need, from the characters and token ids of its prompts and, for each of its
    `answers`, the maximum that the caller set (None: nothing is counted).
    """
    return math.ceil(characters / CHARACTERS_PER_TOKEN) + token_ids + (max_tokens or 0) * answers


def _until_below(window: _Window, limit: int, now: datetime) -> float:
    """Seconds until enough tokens have left the window for a request to be admitted."""
    tokens, wait_s = window.tokens, 0.0
    for admission in window.admitted:
        if tokens < limit:
            break
        tokens -= admission.tokens
        wait_s = _remaining_s(admission, now)
    return wait_s


def _remaining_s(admission: Admission, now: datetime) -> float:
    """Seconds until a request leaves the window."""
    return max(0.0, (admission.at + WINDOW - now).total_seconds())


def _refused(limit: str, wait_s: float) -> RateLimited:
    """The error with the seconds after which the caller may try again."""
    seconds = math.ceil(wait_s)
    return RateLimited(
        "rate_limit_exceeded",
        f"Requests to this deployment have exceeded the {limit}. Please retry after {seconds} "
        f"second{'' if seconds == 1 else 's'}, or raise the deployment's sku capacity.",
        wait_s,
    )
