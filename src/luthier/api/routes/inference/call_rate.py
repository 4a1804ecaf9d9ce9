"""The rate limit of one call, and the headers that say what remains of it."""

from functools import partial

from fastapi import Request

from luthier.api.http import thread_pools
from luthier.api.http.thread_pools import Workers
from luthier.api.services import Services
from luthier.core.errors import RateLimited
from luthier.core.models import Principal
from luthier.service.inference.model_routing import Target
from luthier.service.tenants.rate_limits import Admission, Limit


class CallRate:
    """The rate limit of a call's target, as one request uses it: one caller's deployment or model.

    Without effect if there is no limit.
    """

    def __init__(self, services: Services, request: Request, caller: Principal, target: Target) -> None:
        """Looks up the limit, None if there is none. Tokens are counted by resource and deployment or model."""
        self._limits = services.rate_limits
        self._traffic = services.traffic
        self._deployment = target.deployment
        self._now = services.context.now
        self._request = request
        self._limit: Limit | None = self._limits.limit_of(target.deployment)
        name = target.name if target.deployment is None else f"deployments/{target.name}"
        self._name = f"{caller.resource.id}/{name}"
        self._admission: Admission | None = None

    def admit(self, tokens: int) -> None:
        """Counts the estimate; may wait for the database where several processes share the limit.

        Raises RateLimited, and then counts nothing; the headers of that answer are in the request's state.
        """
        while self._needs_share(tokens):
            self._get_share(tokens)
        self._count(tokens)

    async def admit_on_loop(self, tokens: int) -> None:
        """As `admit`, for callers on the event loop: a thread waits for the database."""
        while self._needs_share(tokens):
            get_share = partial(self._get_share, tokens)
            await thread_pools.run(Workers.WRITES, get_share)
        self._count(tokens)

    def _needs_share(self, tokens: int) -> bool:
        return self._limit is not None and self._limits.needs_share(self._name, self._limit, tokens, self._now())

    def _get_share(self, tokens: int) -> None:
        assert self._limit is not None
        self._limits.get_share(self._name, self._limit, tokens, self._now())

    def _count(self, tokens: int) -> None:
        """Counts the estimate within this process's share."""
        if self._limit is None:
            return
        now = self._now()
        self._request.state.rate_headers = self.headers()
        try:
            self._admission = self._limits.admit(self._name, self._limit, tokens, now)
        except RateLimited:
            self._traffic.count_refusal(self._deployment)
            raise

    def settle(self, tokens: int) -> None:
        """Replaces the counted estimate by the tokens used; 0 for a call that failed."""
        if self._admission is not None:
            self._limits.correct(self._admission, tokens)

    def headers(self) -> dict[str, str]:
        """The limit and what remains of it, by header; none if there is no limit.

        OpenAI API reference, "Rate limits in headers"; Azure sends the same names.
        """
        if self._limit is None:
            return {}
        watched = self._limits.remaining(self._name, self._limit, self._now())
        reset = f"{watched.reset_s:.0f}s"
        return {
            "x-ratelimit-limit-requests": str(self._limit.requests),
            "x-ratelimit-limit-tokens": str(self._limit.tokens),
            "x-ratelimit-remaining-requests": str(watched.requests),
            "x-ratelimit-remaining-tokens": str(watched.tokens),
            "x-ratelimit-reset-requests": reset,
            "x-ratelimit-reset-tokens": reset,
        }
