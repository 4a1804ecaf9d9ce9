"""The HTTP application of an engine host: one POST for an operation, its answer a stream of JSON lines.

Callers are other processes of the installation, which all have its key; there are no tenants here.
"""

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from luthier.core.inference.engine_hosts import PATH, Operation
from luthier.engine_host import answer_lines
from luthier.engine_host.operations import HostOperations
from luthier.service import service_metrics

logger = logging.getLogger(__name__)

Answer = Callable[[Request], Awaitable[Response]]
Lifespan = Callable[[Starlette], AbstractAsyncContextManager[None]]


def build(operations: HostOperations, key: str, metrics: Callable[[], bytes], lifespan: Lifespan) -> Starlette:
    """The application. Every call but the health check must have the `key`; `metrics` gives Prometheus's text."""

    async def answer(request: Request) -> Response:
        """404 for an operation that this version does not have, 400 for what is no JSON."""
        try:
            operation = Operation(request.path_params["operation"])
        except ValueError:
            return PlainTextResponse("There is no such operation.", 404)
        try:
            body = await request.json()
        except ValueError:
            return PlainTextResponse("The body is no JSON.", 400)
        values = operations.answer(operation, body)
        return StreamingResponse(answer_lines.lines(values), media_type="application/x-ndjson")

    async def show_metrics(request: Request) -> Response:
        return Response(await asyncio.to_thread(metrics), media_type=service_metrics.CONTENT_TYPE)

    async def live(request: Request) -> Response:
        return PlainTextResponse("alive")

    return Starlette(
        routes=[
            Route(PATH + "{operation}", _with_key(answer, key), methods=["POST"]),
            Route("/metrics", _with_key(show_metrics, key)),
            Route("/healthz", live),
        ],
        lifespan=lifespan,
    )


def _with_key(answer: Answer, key: str) -> Answer:
    """Answers 401 to whoever has not the key."""
    expected = f"Bearer {key}".encode()

    async def checked(request: Request) -> Response:
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), expected):
            logger.warning("call refused: no key, or another one")
            return PlainTextResponse("The key is missing or another one.", 401)
        return await answer(request)

    return checked
