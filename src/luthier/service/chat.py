"""Chat completions: which model a call means, where it answers, and the call itself."""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx2

from luthier.core.errors import InvalidRequest, LuthierError, NoSpace, Unavailable, UpstreamFailed
from luthier.core.models import Deployment
from luthier.core.ports import Address
from luthier.core.states import DeploymentState
from luthier.service import deployments, models
from luthier.service.context import Context
from luthier.service.models import Model
from luthier.service.serving import Serving
from luthier.store import deployments as deployment_rows

USE_IS_NOTED_EVERY = timedelta(minutes=1)
ENGINE_TIMEOUT = httpx2.Timeout(600.0, connect=10.0)


@dataclass(frozen=True, slots=True)
class Route:
    """The model that a call is for, and where it answers."""

    model: Model
    address: Address


def route(context: Context, serving: Serving, resource_id: str, name: str, models_too: bool) -> Route:
    """Finds the deployment of that name, or with `models_too` the model, and has it ready to answer.

    Blocks while a model is loaded. Raises NotFound for an unknown name or a deployment that has not succeeded.
    """
    with context.database.reading() as tx:
        deployment = deployment_rows.get(tx, resource_id, name)
        proven = deployment is not None and deployment.state is DeploymentState.SUCCEEDED
        if deployment is not None and proven:
            model = models.resolve(context, tx, resource_id, deployment.model)
        elif models_too:
            model = models.resolve(context, tx, resource_id, name)
        else:
            model = None
    if model is None:
        raise models.not_found(name, "model") if models_too else deployments.not_found(name)
    if deployment is not None and proven:
        _note_use(context, deployment)
    return Route(model, serving.address(model, proven))


def _note_use(context: Context, deployment: Deployment) -> None:
    """Writes the time of a call, once a minute at most: what is not called for long is deleted."""
    now = context.now()
    unless_since = now - USE_IS_NOTED_EVERY
    if deployment.last_used_at <= unless_since:
        # A full disk is no reason not to answer: the next call notes its own time.
        with suppress(NoSpace), context.database.writing() as tx:
            deployment_rows.set_used(tx, deployment.resource_id, deployment.name, now, unless_since)


async def complete(route: Route, body: Mapping[str, Any]) -> dict[str, Any]:
    """Asks for a whole answer and gives the engine's chat.completion. Raises InvalidRequest and Unavailable."""
    async with httpx2.AsyncClient(timeout=ENGINE_TIMEOUT, trust_env=False) as client:
        try:
            response = await client.post(_url(route), json=_body(route, body), headers=dict(route.address.headers))
        except httpx2.TransportError as error:
            raise _engine_gone() from error
    if response.status_code != 200:
        raise _refusal(response.status_code, response.content)
    answer = response.json()
    assert isinstance(answer, dict)
    return answer


async def stream(route: Route, body: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Asks for an answer in pieces and gives the engine's chat.completion.chunk objects.

    Raises as `complete` does, before the first piece. When the caller stops reading, the engine is told by the closed
    connection and frees its slot.
    """
    async with httpx2.AsyncClient(timeout=ENGINE_TIMEOUT, trust_env=False) as client:
        try:
            call = client.stream("POST", _url(route), json=_body(route, body), headers=dict(route.address.headers))
            async with call as response:
                if response.status_code != 200:
                    raise _refusal(response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        yield json.loads(line.removeprefix("data: "))
        except httpx2.TransportError as error:
            raise _engine_gone() from error


def _url(route: Route) -> str:
    return f"{route.address.url}/chat/completions"


def _body(route: Route, body: Mapping[str, Any]) -> dict[str, Any]:
    return {**body, "model": route.model.canonical_name, **route.address.fields}


def _engine_gone() -> Unavailable:
    return Unavailable(
        "engine_gone", "The engine that serves this model ended in the middle of the call. Ask again: it starts anew."
    )


def _refusal(status: int, content: bytes) -> LuthierError:
    try:
        error = json.loads(content)["error"]
        kind, text = str(error.get("type")), str(error.get("message"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return UpstreamFailed("engine_failed", f"The engine answered with status {status} and no reason.")
    if kind == "exceed_context_size_error":
        return InvalidRequest("context_length_exceeded", f"The prompt is too long for this model: {text}", "messages")
    if status < 500:
        return InvalidRequest("engine_refused", f"The engine refused the request: {text}")
    return UpstreamFailed("engine_failed", f"The engine failed: {text}")
