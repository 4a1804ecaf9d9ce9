"""/embeddings: vectors of texts, by the embedding model that a deployment or a name leads to."""

from functools import partial
from typing import Annotated

from fastapi import Depends, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from luthier.api.auth import authentication
from luthier.api.dialects.dialects import Dialect
from luthier.api.dialects.inference import embedding_answers
from luthier.api.dialects.inference.embedding_answers import Shape
from luthier.api.http.disconnects import CLIENT_CLOSED_REQUEST, CallerLeft, unless_left
from luthier.api.requests.embedding_bodies import EmbeddingBody
from luthier.api.routes.inference.answer_stream import while_authorized
from luthier.api.routes.inference.call_rate import CallRate
from luthier.api.routing import chat_schemas, embedding_schemas
from luthier.api.routing.json_response import JsonResponse
from luthier.api.routing.operation import JSON, Reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.errors import InvalidRequest, LuthierError
from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.service.inference import answer_spans, embeddings, model_routing
from luthier.service.inference.embeddings import EmbeddingRequest
from luthier.service.inference.model_routing import Route
from luthier.service.tenants.rate_limits import estimate

MAX_INLINE_VECTORS = 16
"""So many are written on the event loop, in a millisecond: two thousand in numbers are a second of work."""
_SUMMARY = "Create embeddings: a vector of length 1 for each input"
_REPLY = Reply(content={JSON: embedding_schemas.embeddings()}, headers=chat_schemas.RATE_LIMIT_HEADERS)


def add_routes(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds the dialect's routes: Azure's dated API names the deployment in the path, the others in `model`."""
    Caller = Annotated[Principal, Depends(authentication.require_key(services.context))]
    endpoint = EmbeddingEndpoint(dialect, services)

    if dialect.deployment_in_path:

        @router.post(
            "/deployments/{deployment}/embeddings", Action.INFER, _SUMMARY, _REPLY, **embedding_schemas.DETAILS
        )
        async def embed_by_path(request: Request, deployment: str, body: EmbeddingBody, caller: Caller) -> Response:
            return await endpoint.respond(request, caller, deployment, body)

        return

    @router.post("/engines/{deployment}/embeddings", Action.INFER, _SUMMARY, _REPLY, **embedding_schemas.DETAILS)
    async def embed_by_engine(request: Request, deployment: str, body: EmbeddingBody, caller: Caller) -> Response:
        """The path of older SDKs; `model` in the body is not looked at."""
        return await endpoint.respond(request, caller, deployment, body)

    @router.post("/embeddings", Action.INFER, _SUMMARY, _REPLY, **embedding_schemas.DETAILS)
    async def embed(request: Request, body: EmbeddingBody, caller: Caller) -> Response:
        """`model` names a deployment, or in OpenAI's dialect a model."""
        if body.model is None:
            raise InvalidRequest("missing_model", "model is missing; name a deployment or a model in it.", "model")
        return await endpoint.respond(request, caller, body.model, body)


class EmbeddingEndpoint:
    """Answers calls of embedding models in one dialect: finds the model, applies the rate limit, computes and sends."""

    def __init__(self, dialect: Dialect, services: Services) -> None:
        self._dialect = dialect
        self._services = services

    async def respond(self, request: Request, caller: Principal, name: str, body: EmbeddingBody) -> Response:
        """The vectors of a body's inputs by the deployment or model `name`; an empty 499 once the client has left.

        Raises the errors of routing, rate limit and engine, which are answered with a status of their own.
        """
        try:
            return await unless_left(request.receive, self._respond(request, caller, name, body))
        except CallerLeft:
            return Response(status_code=CLIENT_CLOSED_REQUEST)

    async def _respond(self, request: Request, caller: Principal, name: str, body: EmbeddingBody) -> Response:
        """As `respond`, for a client that stays. The caller's right is watched while it waits for model and vectors."""
        services, resource_id = self._services, caller.resource.id
        asked = body.embedding_request()
        credentials = authentication.credentials_of(request)
        with services.rights.watching(services.context, credentials) as watched:
            find = partial(model_routing.find, services.context, resource_id, name, self._dialect.calls_models, True)
            target = await run_in_threadpool(find)
            route = await watched.unless_lost(model_routing.route(services.serving, resource_id, target))
            route = while_authorized(route, watched)
            answer_spans.note_request(name, route.model.canonical_name, asked)
            rate = CallRate(services, request, caller, route.target)
            await rate.admit_on_loop(tokens_of(asked))
            try:
                answer = await watched.unless_lost(embed_as(services, route, body))
                await watched.check()
            except LuthierError:
                rate.settle(0)
                raise
            rate.settle(answer["usage"]["total_tokens"])
            answer_spans.note_input_tokens(answer["usage"]["total_tokens"])
            if len(answer["data"]) <= MAX_INLINE_VECTORS:
                return JsonResponse(answer, headers=rate.headers())
            return await run_in_threadpool(partial(JsonResponse, answer, headers=rate.headers()))


async def embed_as(services: Services, route: Route, body: EmbeddingBody) -> Shape:
    """The answer to a body, whose model the route leads to. Raises as `embeddings.embed`."""
    asked = body.embedding_request()
    vectors = embeddings.embed(services.context, services.calls.embeddings, route, asked)
    now = services.context.now()
    found = await services.traffic.counted(route.target.deployment, now, vectors, lambda made: (made.tokens, 0))
    as_base64 = body.encoding_format == "base64"
    shaped = partial(embedding_answers.shape, found, route.model.canonical_name, as_base64)
    return shaped() if len(found.vectors) <= MAX_INLINE_VECTORS else await run_in_threadpool(shaped)


def tokens_of(asked: EmbeddingRequest) -> int:
    """An upper estimate of a request's tokens, for the rate limit."""
    texts = sum(len(each) for each in asked.inputs if isinstance(each, str))
    return estimate(texts, sum(len(each) for each in asked.inputs if not isinstance(each, str)), None, 1)
