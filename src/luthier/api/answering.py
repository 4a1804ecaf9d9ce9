"""How a model's answer goes out: its rate counted, whole or as server-sent events, under the limit's headers."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from luthier.api.dialects import Dialect
from luthier.api.services import Services
from luthier.core.errors import LuthierError
from luthier.core.models import Principal
from luthier.service import chat
from luthier.service.chat import Route
from luthier.service.rate_limits import Admission, Limit

Shape = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """A question on its way: the most tokens that it may need, and how it is asked, whole or in pieces."""

    tokens: int
    whole: Callable[[Route], Awaitable[Shape]]
    stream: Callable[[Route], AsyncIterator[Shape]] | None
    wants_usage: bool


class Answering:
    """Answers in one dialect."""

    def __init__(self, dialect: Dialect, services: Services) -> None:
        self._dialect = dialect
        self._services = services

    async def answer(self, request: Request, caller: Principal, name: str, asked: Asked) -> Response:
        services = self._services
        route = await run_in_threadpool(
            chat.route, services.context, services.serving, caller.resource.id, name, self._dialect.calls_models
        )
        rate = _Rate(services, request, caller, route)
        rate.admit(asked.tokens)
        try:
            if asked.stream is None:
                whole = await asked.whole(route)
                rate.settle(whole["usage"]["total_tokens"])
                return JSONResponse(whole, headers=rate.headers())
            pieces = asked.stream(route)
            first = await anext(pieces)  # an error before the first piece is still an answer with a status of its own
        except LuthierError:
            rate.settle(0)
            raise
        sent = self._sent(first, pieces, asked.wants_usage, rate)
        return StreamingResponse(sent, media_type="text/event-stream", headers=rate.headers())

    async def _sent(
        self, first: Shape, rest: AsyncIterator[Shape], wants_usage: bool, rate: "_Rate"
    ) -> AsyncIterator[str]:
        """Server-sent events; the closing piece with the usage, and null before it, only for those who asked for it.

        Of an answer that nobody reads to its end the estimate stays counted.
        """
        nothing_yet = {"usage": None} if wants_usage else {}
        try:
            yield _line(first | nothing_yet)
            async for piece in rest:
                if piece["choices"]:
                    yield _line(piece | nothing_yet)
                else:
                    rate.settle(piece["usage"]["total_tokens"])
                    if wants_usage:
                        yield _line(piece)
        except LuthierError as error:
            yield _line(self._dialect.error(error))
        yield "data: [DONE]\n\n"


class _Rate:
    """One request's place in the limit of what it called; nothing at all where there is no limit."""

    def __init__(self, services: Services, request: Request, caller: Principal, route: Route) -> None:
        self._limits = services.rate_limits
        self._now = services.context.now
        self._request = request
        self._limit: Limit | None = self._limits.limit_of(route.deployment)
        called = route.model.canonical_name if route.deployment is None else f"deployments/{route.deployment.name}"
        self._name = f"{caller.resource.id}/{called}"
        self._admission: Admission | None = None

    def admit(self, tokens: int) -> None:
        """Raises RateLimited, for whose answer the headers stand ready."""
        if self._limit is None:
            return
        now = self._now()
        self._request.state.rate_headers = self.headers()
        self._admission = self._limits.admit(self._name, self._limit, tokens, now)

    def settle(self, tokens: int) -> None:
        if self._admission is not None:
            self._limits.settle(self._admission, tokens)

    def headers(self) -> dict[str, str]:
        """OpenAI API reference, "Rate limits in headers"; Azure sends the same names."""
        if self._limit is None:
            return {}
        standing = self._limits.standing(self._name, self._limit, self._now())
        reset = f"{standing.reset_s:.0f}s"
        return {
            "x-ratelimit-limit-requests": str(self._limit.requests),
            "x-ratelimit-limit-tokens": str(self._limit.tokens),
            "x-ratelimit-remaining-requests": str(standing.requests),
            "x-ratelimit-remaining-tokens": str(standing.tokens),
            "x-ratelimit-reset-requests": reset,
            "x-ratelimit-reset-tokens": reset,
        }


def _line(value: Shape) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n"
