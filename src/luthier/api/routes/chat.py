"""/chat/completions, whole and streamed: the engine's answer passed on under the name of the model that gave it."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from luthier.api import auth
from luthier.api.bodies import ChatBody
from luthier.api.dialects import Dialect
from luthier.api.services import Services
from luthier.core.errors import InvalidRequest, LuthierError
from luthier.core.models import Principal
from luthier.service import chat

_ENGINE_ONLY = ("timings", "__verbose", "id_slot")
"""Fields that an engine adds for itself and that the wire does not know."""


def add(router: APIRouter, dialect: Dialect, services: Services) -> None:
    Caller = Annotated[Principal, Depends(auth.require_key(services.context))]

    if dialect.deployment_in_path:

        @router.post("/deployments/{deployment}/chat/completions")
        async def complete_by_path(deployment: str, body: ChatBody, caller: Caller) -> Response:
            return await _answer(dialect, services, caller, deployment, body)

        return

    @router.post("/engines/{deployment}/chat/completions")
    async def complete_by_engine(deployment: str, body: ChatBody, caller: Caller) -> Response:
        return await _answer(dialect, services, caller, deployment, body)

    @router.post("/chat/completions")
    async def complete(body: ChatBody, caller: Caller) -> Response:
        if body.model is None:
            raise InvalidRequest("missing_model", "model is missing; name a deployment or a model in it.", "model")
        return await _answer(dialect, services, caller, body.model, body)


async def _answer(dialect: Dialect, services: Services, caller: Principal, name: str, body: ChatBody) -> Response:
    question = body.for_engine()
    route = await run_in_threadpool(
        chat.route, services.context, services.serving, caller.resource.id, name, dialect.calls_models
    )
    if not body.stream:
        return JSONResponse(_cleaned(await chat.complete(route, question), route))
    chunks = chat.stream(route, question)
    first = await anext(chunks)  # an error before the first piece is still an answer with a status of its own
    wants_usage = body.stream_options is not None and body.stream_options.include_usage
    return StreamingResponse(_sent(dialect, route, first, chunks, wants_usage), media_type="text/event-stream")


async def _sent(
    dialect: Dialect, route: chat.Route, first: dict[str, Any], rest: AsyncIterator[dict[str, Any]], wants_usage: bool
) -> AsyncIterator[str]:
    """Server-sent events; the closing piece with the usage only for those who asked for it."""
    try:
        for chunk in [first]:
            yield _line(_cleaned(chunk, route))
        async for chunk in rest:
            if chunk.get("choices") or wants_usage:
                yield _line(_cleaned(chunk, route))
    except LuthierError as error:
        yield _line(dialect.error(error))
    yield "data: [DONE]\n\n"


def _cleaned(answer: dict[str, Any], route: chat.Route) -> dict[str, Any]:
    kept = {key: value for key, value in answer.items() if key not in _ENGINE_ONLY}
    return kept | {"model": route.model.canonical_name}


def _line(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False, separators=(',', ':'))}\n\n"
