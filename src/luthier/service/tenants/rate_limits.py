"""Rate limits: requests and tokens per minute of a deployment, counted in memory over a sliding window of 60 s.

Where several processes answer, each counts its own calls, and admits them within its share (`rate_grants`).
"""

import math
import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from luthier.core.errors import RateLimited
from luthier.core.models import Deployment
from luthier.service.tenants.rate_grants import CHUNKS, RETURN_S, RateGrants
from luthier.store.queries.leasing.rate_grants import Share

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

    @property
    def whole(self) -> Share:
        return Share(self.requests, self.tokens)


@dataclass(frozen=True, slots=True)
class Remaining:
    """What remains of a limit, and the seconds until it is whole again, 0 if nothing is counted."""

    limit: Limit
    requests: int
    tokens: int
    reset_s: float


@dataclass(slots=True)
class _Window:
    """The requests of the last minute, oldest first, the sum of their tokens, and the limit at the latest one."""

    admitted: deque["Admission"] = field(default_factory=deque)
    tokens: int = 0
    limit: Limit = Limit(0)

    @property
    def used(self) -> Share:
        return Share(len(self.admitted), self.tokens)

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

    With `grants` the limits are those of all processes together: `needs_share` and `get_share` come before `admit`.
    """

    def __init__(
        self, tokens_per_capacity: int = 0, model_tokens: int | None = None, grants: RateGrants | None = None
    ) -> None:
        self._tokens_per_capacity = tokens_per_capacity
        self._model_tokens = model_tokens
        self._grants = grants
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
            window.limit = limit
            others = Share() if self._grants is None else self._grants.others(name)
            of_tokens, of_requests = limit.tokens - others.tokens, limit.requests - others.requests
            has_share = self._has_share(name, window, tokens)
            if window.tokens >= of_tokens or (not has_share and len(window.admitted) < of_requests):
                wait_s = _until_below(window, of_tokens, now) or RETURN_S
                raise _refused(f"token rate limit of {limit.tokens} tokens per minute", wait_s)
            if len(window.admitted) >= of_requests or not has_share:
                wait_s = _until_fewer(window, of_requests, now)
                raise _refused(f"call rate limit of {limit.requests} requests per minute", wait_s)
            admission = Admission(now, tokens, window)
            window.admitted.append(admission)
            window.tokens += tokens
            return admission

    def needs_share(self, name: str, limit: Limit, tokens: int, now: datetime) -> bool:
        """Whether `get_share` may make room for a request that this process's share of the limit has none for."""
        if self._grants is None or not self._grants.may_ask(name):
            return False
        with self._lock:
            return not self._has_share(name, self._window(name, now), tokens)

    def get_share(self, name: str, limit: Limit, tokens: int, now: datetime) -> None:
        """Asks the database for room for a request; waits for it. Raises Unavailable and NoSpace."""
        assert self._grants is not None
        with self._lock:
            used = self._window(name, now).used
        self._grants.ask(name, limit.whole, used, tokens)

    def adjust_shares(self, now: datetime) -> None:
        """Gives back what this process holds of limits beyond its use, and renews the rest, in the database.

        Raises Unavailable and NoSpace.
        """
        grants = self._grants
        if grants is None:
            return

        def kept() -> dict[str, Share]:
            windows = {name: self._window(name, now) for name in list(self._windows)}
            return {name: _kept(one, grants.share(name)) for name, one in windows.items() if one.admitted}

        grants.adjust(kept, self._lock)

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
            others = Share() if self._grants is None else self._grants.others(name)
            return Remaining(
                limit,
                max(0, limit.requests - others.requests - len(window.admitted)),
                max(0, limit.tokens - others.tokens - window.tokens),
                _remaining_s(window.admitted[-1], now) if window.admitted else 0.0,
            )

    def _has_share(self, name: str, window: _Window, tokens: int) -> bool:
        """Whether this process's share has room for one more request of so many tokens; all if it is alone."""
        if self._grants is None:
            return True
        share = self._grants.share(name)
        return len(window.admitted) < share.requests and window.tokens + tokens <= share.tokens

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


def _kept(window: _Window, share: Share) -> Share:
    """What a process keeps of its share: its use and up to two chunks; one if it has more than that."""
    used, limit = window.used, window.limit.whole
    return Share(
        _kept_part(used.requests, share.requests, limit.requests // CHUNKS),
        _kept_part(used.tokens, share.tokens, limit.tokens // CHUNKS),
    )


def _kept_part(used: int, share: int, chunk: int) -> int:
    return used + chunk if share > used + 2 * chunk else max(share, used)


def _until_fewer(window: _Window, limit: int, now: datetime) -> float:
    """Seconds until one more request is within the limit; at least until others may have given a share back."""
    if not 0 < limit <= len(window.admitted):
        return RETURN_S
    return _remaining_s(window.admitted[len(window.admitted) - limit], now)


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
