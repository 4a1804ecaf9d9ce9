"""/healthz and /readyz: no key, and an answer within a bounded time whatever else is under way."""

from typing import Literal

import anyio
from fastapi.responses import Response
from msgspec import Struct

from luthier.api.http import thread_pools
from luthier.api.http.thread_pools import Workers
from luthier.api.routing.json_response import JsonResponse
from luthier.api.routing.operation import json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.errors import LuthierError
from luthier.service.context import Context

READY_TIMEOUT_S = 2.0


class Alive(Struct, kw_only=True):
    """The answer of a process that runs; nothing is checked."""

    status: Literal["alive"] = "alive"


class Readiness(Struct, kw_only=True):
    """Whether the service can take work: `ready` or why not, and the base models that are on this machine."""

    status: str
    base_models: list[str]


def build_router(services: Services) -> Router:
    """`/healthz`: the process answers, without a worker thread or the database. `/readyz`: it can take work, or 503."""
    router = Router(tag="health")

    @router.get("/healthz", None, "Is the service alive?", json_reply(Alive))
    async def healthz() -> Response:
        return JsonResponse(Alive())

    @router.get("/readyz", None, "Can it take work?", json_reply(Readiness), json_reply(Readiness, 503))
    async def readyz() -> Response:
        """503 with the reason: no database in time, no base model, or a model that should answer and cannot."""
        try:
            with anyio.fail_after(READY_TIMEOUT_S):
                ready = await thread_pools.run(Workers.HEALTH, lambda: _ready_models(services.context))
        except (TimeoutError, LuthierError):
            return JsonResponse(Readiness(status="the database does not answer in time", base_models=[]), 503)
        state = "ready" if ready else "no base model here yet; run: luthier models pull smollm2-135m-instruct"
        if faults := services.serving.faults():
            state = " ".join(faults)
        return JsonResponse(Readiness(status=state, base_models=ready), 200 if ready and not faults else 503)

    return router


def look_at_database(context: Context) -> None:
    """Reads the database, to know that it answers. Raises LuthierError."""
    with context.database.reading():
        return


def _ready_models(context: Context) -> list[str]:
    """The names of the base models whose weights are here; empty if there is none.

    Reads the database, to know that it answers.
    """
    with context.database.reading():
        return [model.name for model in context.catalog.everything() if context.is_ready(model.name)]
