"""Around every request: an id, a log line, and a cap on the body's length. Plain ASGI, so that bodies can stream."""

import logging
import time
from collections.abc import Callable
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luthier.core.errors import TooLarge
from luthier.service.files import MAX_FILE_BYTES
from luthier.service.uploads import MAX_PART_BYTES

logger = logging.getLogger(__name__)

MAX_JSON_BYTES = 32 * 1024 * 1024
MAX_FORM_OVERHEAD_BYTES = 1024 * 1024


class RequestLog:
    """Gives each request an id, in the headers that both vendors use, and logs one line without query or body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        started = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["apim-request-id"] = request_id
            elif not message.get("more_body", False):
                # Before the last byte goes out: who has the answer can find its line.
                _log(scope, request_id, status, time.perf_counter() - started)
            await send(message)

        await self._app(scope, receive, send_with_id)


def _log(scope: Scope, request_id: str, status: int, seconds: float) -> None:
    route = scope.get("route")
    path = route.path if isinstance(route, Route) else "-"
    line = "request id=%s %s %s status=%d ms=%.1f"
    logger.info(line, request_id, scope["method"], path, status, seconds * 1000)


class BodyCap:
    """Refuses a body over the cap: by its declared length before a byte is read, else where it passes the cap."""

    def __init__(self, app: ASGIApp, refuse: Callable[[Scope, TooLarge], ASGIApp]) -> None:
        self._app = app
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cap = _cap(scope["method"], scope["path"])
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdigit() and int(declared) > cap:
            await self._refuse(scope, _too_large(cap))(scope, receive, send)
            return
        received, is_refused = 0, False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > cap:
                    raise _too_large(cap)
            return message

        async def sent(message: Message) -> None:
            """Whatever was made of the error above (FastAPI makes a plain 400 of it), the answer is ours."""
            nonlocal is_refused
            if received > cap and message["type"] == "http.response.start":
                is_refused = True
                await self._refuse(scope, _too_large(cap))(scope, receive, send)
            elif not is_refused:
                await send(message)

        await self._app(scope, counted, sent)


def _cap(method: str, path: str) -> int:
    if method == "POST" and path.endswith("/files"):
        return MAX_FILE_BYTES + MAX_FORM_OVERHEAD_BYTES
    if method == "POST" and path.endswith("/parts"):
        return MAX_PART_BYTES + MAX_FORM_OVERHEAD_BYTES
    return MAX_JSON_BYTES


def _too_large(cap: int) -> TooLarge:
    return TooLarge("body_too_large", f"The request's body is larger than {cap // 2**20} MiB, the limit here.")
