"""Middleware that gives every request an id and a log line. Plain ASGI, so that bodies can stream."""

import logging
import time
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)


class RequestLog:
    """Gives each request an id, in the headers that both vendors use, and logs one line without query or body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on; writes `request_id` into its state, and two headers into its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            """Sends a part of the answer: the head with the id, and before the last part the log line is written."""
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["apim-request-id"] = request_id
            elif not message.get("more_body", False):
                # Before the last byte is sent: whoever has the answer can find its line.
                _log(scope, request_id, status, time.perf_counter() - started)
            await send(message)

        await self._app(scope, receive, send_with_id)


def _log(scope: Scope, request_id: str, status: int, seconds: float) -> None:
    """One debug line with the route's template, never the path itself, and the milliseconds that it took."""
    route = scope.get("route")
    path = route.path if isinstance(route, Route) else "-"
    line = "request id=%s %s %s status=%d ms=%.1f"
    logger.debug(line, request_id, scope["method"], path, status, seconds * 1000)
