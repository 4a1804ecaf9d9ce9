"""/completions, the legacy way to ask: text that goes on from a prompt, whole and streamed."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from luthier.api import auth
from luthier.api.answering import Answering, Asked
from luthier.api.completion_bodies import CompletionBody
from luthier.api.dialects import Dialect
from luthier.api.services import Services
from luthier.core.errors import InvalidRequest
from luthier.core.models import Principal
from luthier.service import completions
from luthier.service.rate_limits import estimate


def add(router: APIRouter, dialect: Dialect, services: Services) -> None:
    Caller = Annotated[Principal, Depends(auth.require_key(services.context))]
    answering = Answering(dialect, services)

    if dialect.deployment_in_path:

        @router.post("/deployments/{deployment}/completions")
        async def complete_by_path(request: Request, deployment: str, body: CompletionBody, caller: Caller) -> Response:
            return await answering.answer(request, caller, deployment, _asked(services, body))

        return

    @router.post("/completions")
    async def complete(request: Request, body: CompletionBody, caller: Caller) -> Response:
        if body.model is None:
            raise InvalidRequest("missing_model", "model is missing; name a deployment or a model in it.", "model")
        return await answering.answer(request, caller, body.model, _asked(services, body))


def _asked(services: Services, body: CompletionBody) -> Asked:
    question = body.question()
    context = services.context
    characters = sum(len(prompt) for prompt in question.prompts if isinstance(prompt, str))
    token_ids = sum(len(prompt) for prompt in question.prompts if not isinstance(prompt, str))
    answers = question.best_of * len(question.prompts)
    return Asked(
        tokens=estimate(characters, token_ids, question.max_tokens, answers),
        whole=lambda route: completions.complete(context, route, question),
        stream=(lambda route: completions.stream(context, route, question)) if body.stream else None,
        wants_usage=body.wants_usage,
    )
