"""/chat/completions, complete and streamed: the answer of the model that a deployment or a name leads to."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.responses import Response

from luthier.api.auth import authentication
from luthier.api.dialects.dialects import Dialect
from luthier.api.dialects.inference.chat_answers import ChatAnswers
from luthier.api.requests.chat_bodies import ChatBody
from luthier.api.routes.inference.answer_stream import WITHOUT_EFFECT, ChunkShapes, InferenceCall, InferenceEndpoint
from luthier.api.routing import chat_schemas
from luthier.api.routing.operation import JSON, SSE, Details, EventStreamOf, Reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.errors import InvalidRequest
from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.service.tenants.rate_limits import estimate

_SUMMARY = "Create a chat completion; with stream=true as server-sent events"
_REPLY = Reply(
    content={JSON: chat_schemas.completion(), SSE: EventStreamOf(chat_schemas.chunk())},
    headers=(*chat_schemas.RATE_LIMIT_HEADERS, WITHOUT_EFFECT),
)
_DETAILS: Details = {**chat_schemas.INFERENCE, "example": chat_schemas.CHAT_EXAMPLE}


def add_routes(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds the dialect's chat routes: Azure's dated API names the deployment in the path, the others in `model`."""
    Caller = Annotated[Principal, Depends(authentication.require_key(services.context))]
    endpoint = InferenceEndpoint(dialect, services)

    if dialect.deployment_in_path:

        @router.post("/deployments/{deployment}/chat/completions", Action.INFER, _SUMMARY, _REPLY, **_DETAILS)
        async def complete_by_path(request: Request, deployment: str, body: ChatBody, caller: Caller) -> Response:
            return await endpoint.respond(request, caller, deployment, call_of(body, dialect))

        return

    @router.post("/engines/{deployment}/chat/completions", Action.INFER, _SUMMARY, _REPLY, **_DETAILS)
    async def complete_by_engine(request: Request, deployment: str, body: ChatBody, caller: Caller) -> Response:
        """The path of older SDKs; `model` in the body is not looked at."""
        return await endpoint.respond(request, caller, deployment, call_of(body, dialect))

    @router.post("/chat/completions", Action.INFER, _SUMMARY, _REPLY, **_DETAILS)
    async def complete(request: Request, body: ChatBody, caller: Caller) -> Response:
        """`model` names a deployment, or in OpenAI's dialect a model."""
        if body.model is None:
            raise InvalidRequest("missing_model", "model is missing; name a deployment or a model in it.", "model")
        return await endpoint.respond(request, caller, body.model, call_of(body, dialect))


def call_of(body: ChatBody, dialect: Dialect) -> InferenceCall:
    """The call of a chat's body, with its estimate of tokens. Raises InvalidRequest for contradictory fields."""
    request = body.chat_request()
    answers = ChatAnswers(as_functions=body.functions is not None, top=body.top_logprobs or 0)
    return InferenceCall(
        request,
        ChunkShapes(answers, dialect.error, body.wants_usage),
        tokens=estimate(body.characters(), 0, body.asked_max_tokens, request.sampling.n),
        is_streamed=bool(body.stream),
        without_effect=body.without_effect(),
    )
