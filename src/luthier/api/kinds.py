"""Requests that are refused for their headers alone: too many of them, or a body of a kind that is not read here."""

from collections.abc import Callable

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from luthier.core.errors import HeadersTooLarge, LuthierError, UnsupportedMediaType

MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024


class HeaderCap:
    """Refuses a request with more or longer headers than any client sends."""

    def __init__(self, app: ASGIApp, refuse: Callable[[Scope, LuthierError], ASGIApp]) -> None:
        self._app = app
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = scope["headers"]
            length = sum(len(name) + len(value) for name, value in headers)
            if len(headers) > MAX_HEADERS or length > MAX_HEADER_BYTES:
                error = HeadersTooLarge(
                    "headers_too_large",
                    f"The request has {len(headers)} headers of {length} bytes together; at most {MAX_HEADERS} and "
                    f"{MAX_HEADER_BYTES} bytes are taken. Leave out what the call does not need.",
                )
                await self._refuse(scope, error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def require_json(request: Request) -> None:
    """A dependency for every route: one that reads a JSON body takes no body of another kind.

    `async` though it waits for nothing: a plain function would cost a way to a worker thread and back.
    """
    route = request.scope.get("route")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not isinstance(route, APIRoute) or route.body_field is None or not kind:
        return
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise UnsupportedMediaType(
            "unsupported_media_type",
            f"The body's content-type is {kind[:100]!r}; this route reads JSON. Send it as application/json.",
            "content-type",
        )
