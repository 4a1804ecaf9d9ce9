"""/chat/completions, whole and streamed: the answer of the model that a deployment or a name leads to."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from luthier.api import auth
from luthier.api.answering import Answering, Asked
from luthier.api.chat_bodies import ChatBody
from luthier.api.dialects import Dialect
from luthier.api.services import Services
from luthier.core.errors import InvalidRequest
from luthier.core.models import Principal
from luthier.service import chat
from luthier.service.rate_limits import estimate


def add(router: APIRouter, dialect: Dialect, services: Services) -> None:
    Caller = Annotated[Principal, Depends(auth.require_key(services.context))]
    answering = Answering(dialect, services)

    if dialect.deployment_in_path:

        @router.post("/deployments/{deployment}/chat/completions")
        async def complete_by_path(request: Request, deployment: str, body: ChatBody, caller: Caller) -> Response:
            return await answering.answer(request, caller, deployment, _asked(services, body))

        return

    @router.post("/engines/{deployment}/chat/completions")
    async def complete_by_engine(request: Request, deployment: str, body: ChatBody, caller: Caller) -> Response:
        return await answering.answer(request, caller, deployment, _asked(services, body))

    @router.post("/chat/completions")
    async def complete(request: Request, body: ChatBody, caller: Caller) -> Response:
        if body.model is None:
            raise InvalidRequest("missing_model", "model is missing; name a deployment or a model in it.", "model")
        return await answering.answer(request, caller, body.model, _asked(services, body))


def _asked(services: Services, body: ChatBody) -> Asked:
    question = body.question()
    context = services.context
    return Asked(
        tokens=estimate(body.characters(), 0, body.asked_max_tokens, question.sampling.n),
        whole=lambda route: chat.complete(context, route, question),
        stream=(lambda route: chat.stream(context, route, question)) if body.stream else None,
        wants_usage=body.wants_usage,
    )
