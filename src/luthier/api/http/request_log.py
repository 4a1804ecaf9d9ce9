"""Middleware that gives every request an id and a log line. Plain ASGI, so that bodies can stream."""

import logging
import time
from collections.abc import Callable
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NONE = "-"
"""What stands for a path that no route has, and for a method of the caller's own."""


class RequestLog:
    """Gives each request an id, in the headers that both vendors use, and logs one line without query or body."""

    def __init__(self, app: ASGIApp, observe: Callable[[str, str, int, float], None]) -> None:
        """`observe` is called with method, route template, status and seconds of each request."""
        self._app = app
        self._observe = observe

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
                seconds, route = time.perf_counter() - started, _route(scope)
                self._observe(scope["method"] if scope["method"] in _METHODS else _NONE, route, status, seconds)
                line = "request id=%s method=%s route=%s status=%d ms=%.1f"
                logger.debug(line, request_id, scope["method"], route, status, seconds * 1000)
            await send(message)

        await self._app(scope, receive, send_with_id)


def _route(scope: Scope) -> str:
    """The route's template, below /portal with that; never the path itself. A dash for a path that no route has."""
    route = scope.get("route")
    return f"{scope.get('root_path', '')}{route.path}" if isinstance(route, Route) else _NONE
