"""/completions, the legacy API: text that continues a prompt, complete and streamed."""

from typing import Annotated

from fastapi import Depends, Request
from fastapi.responses import Response

from luthier.api.auth import authentication
from luthier.api.dialects.dialects import Dialect
from luthier.api.dialects.inference.completion_answers import CompletionAnswers
from luthier.api.requests.completion_bodies import CompletionBody
from luthier.api.routes.inference.answer_stream import WITHOUT_EFFECT, ChunkShapes, InferenceCall, InferenceEndpoint
from luthier.api.routing import chat_schemas
from luthier.api.routing.operation import JSON, SSE, EventStreamOf, Reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.errors import InvalidRequest
from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.service.tenants.rate_limits import estimate

_SUMMARY = "Continue a prompt; with stream=true as server-sent events"
_REPLY = Reply(
    content={JSON: chat_schemas.text_completion(), SSE: EventStreamOf(chat_schemas.text_completion())},
    headers=(*chat_schemas.RATE_LIMIT_HEADERS, WITHOUT_EFFECT),
)


def add_routes(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds the dialect's route: Azure's dated API names the deployment in the path, the others in `model`."""
    Caller = Annotated[Principal, Depends(authentication.require_key(services.context))]
    endpoint = InferenceEndpoint(dialect, services)

    if dialect.deployment_in_path:

        @router.post("/deployments/{deployment}/completions", Action.INFER, _SUMMARY, _REPLY, **chat_schemas.INFERENCE)
        async def complete_by_path(request: Request, deployment: str, body: CompletionBody, caller: Caller) -> Response:
            return await endpoint.respond(request, caller, deployment, call_of(body, dialect))

        return

    @router.post("/completions", Action.INFER, _SUMMARY, _REPLY, **chat_schemas.INFERENCE)
    async def complete(request: Request, body: CompletionBody, caller: Caller) -> Response:
        """`model` names a deployment, or in OpenAI's dialect a model."""
        if body.model is None:
            raise InvalidRequest("missing_model", "model is missing; name a deployment or a model in it.", "model")
        return await endpoint.respond(request, caller, body.model, call_of(body, dialect))


def call_of(body: CompletionBody, dialect: Dialect) -> InferenceCall:
    """The call of a completion's body, with its estimate of tokens. Raises InvalidRequest for contradictory fields."""
    request = body.completion_request()
    characters = sum(len(prompt) for prompt in request.prompts if isinstance(prompt, str))
    token_ids = sum(len(prompt) for prompt in request.prompts if not isinstance(prompt, str))
    return InferenceCall(
        request,
        ChunkShapes(CompletionAnswers(request.log_probs), dialect.error, body.wants_usage),
        tokens=estimate(characters, token_ids, request.max_tokens, request.best_of * len(request.prompts)),
        is_streamed=bool(body.stream),
    )
