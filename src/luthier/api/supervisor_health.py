"""What `luthier supervise` answers at an address of its own, if it has one: /livez, /readyz and /metrics."""

from collections.abc import Callable
from typing import Literal

import anyio
from fastapi import FastAPI, Request
from fastapi.responses import Response
from msgspec import UNSET, Struct, UnsetType

from luthier.api import server
from luthier.api.http import thread_pools
from luthier.api.http.thread_pools import Workers
from luthier.api.intake.body_limits import Intake
from luthier.api.routes import health
from luthier.api.routes.extensions import prometheus
from luthier.api.routes.health import READY_TIMEOUT_S, Alive
from luthier.api.routing.json_response import JsonResponse
from luthier.api.routing.operation import json_reply
from luthier.api.routing.router import Router
from luthier.core.errors import LuthierError
from luthier.service.context import Context
from luthier.service.service_metrics import ServiceMetrics

__all__ = ["Standing", "build"]

Standing = Callable[[], int | None]
"""The fencing token of the lease that the process holds now; None while it stands by."""


class SupervisorReadiness(Struct, kw_only=True):
    """Both roles are ready: who stands by is to be kept. `fencing_token` only of the holder."""

    status: str
    role: Literal["supervising", "standing_by"]
    fencing_token: int | UnsetType = UNSET


def build(context: Context, metrics: ServiceMetrics, standing: Standing) -> FastAPI:
    """The application of three routes; /metrics takes the same keys as that of an API process."""
    app = FastAPI(title="luthier supervise", openapi_url=None, redirect_slashes=False)
    app.state.intake = Intake()
    router = Router(tag="health")

    @router.get("/livez", None, "Is the process alive?", json_reply(Alive))
    async def livez() -> Response:
        return JsonResponse(Alive())

    @router.get("/readyz", None, "Can it work?", json_reply(SupervisorReadiness), json_reply(SupervisorReadiness, 503))
    async def supervisor_readyz() -> Response:
        """503 if the database does not answer in time."""
        status, code = "ready", 200
        try:
            with anyio.fail_after(READY_TIMEOUT_S):
                await thread_pools.run(Workers.HEALTH, lambda: health.look_at_database(context))
        except (TimeoutError, LuthierError):
            status, code = "the database does not answer in time", 503
        token = standing()
        if token is None:
            return JsonResponse(SupervisorReadiness(status=status, role="standing_by"), code)
        return JsonResponse(SupervisorReadiness(status=status, role="supervising", fencing_token=token), code)

    app.router.routes.extend(router.routes)
    app.router.routes.extend(prometheus.build_routes(context, metrics).routes)
    app.add_exception_handler(LuthierError, _on_error)
    return app


async def _on_error(request: Request, error: Exception) -> Response:
    """The handler of LuthierError: a key that may not read the metrics."""
    assert isinstance(error, LuthierError)
    return server.answer(request.scope, error)
