"""Requests that are refused by their headers: too many headers, or a body of an unsupported content type."""

from collections.abc import Callable

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from luthier.core.errors import HeadersTooLarge, LuthierError, UnsupportedMediaType

MAX_HEADERS = 100
MAX_HEADER_BYTES = 32 * 1024


class HeaderCap:
    """Middleware that refuses a request with more or longer headers than any client sends: 431.

    `refuse` makes the answer of the error, in the dialect of the path.
    """

    def __init__(self, app: ASGIApp, refuse: Callable[[Scope, LuthierError], ASGIApp]) -> None:
        self._app = app
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers it itself before any route, key or body is looked at."""
        if scope["type"] == "http":
            headers = scope["headers"]
            length = sum(len(name) + len(value) for name, value in headers)
            if len(headers) > MAX_HEADERS or length > MAX_HEADER_BYTES:
                error = HeadersTooLarge(
                    "headers_too_large",
                    f"The request has {len(headers)} headers of {length} bytes together; at most {MAX_HEADERS} and "
                    f"{MAX_HEADER_BYTES} bytes are accepted. Leave out what the call does not need.",
                )
                await self._refuse(scope, error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def require_json(request: Request) -> None:
    """Raises UnsupportedMediaType if the body has another content type than JSON.

    One without any is FastAPI's to report.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if (
        content_type
        and content_type != "application/json"
        and not (content_type.startswith("application/") and content_type.endswith("+json"))
    ):
        raise UnsupportedMediaType(
            "unsupported_media_type",
            f"The body's content-type is {content_type[:100]!r}; this route reads JSON. Send it as application/json.",
            "content-type",
        )
