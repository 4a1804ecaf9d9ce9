"""GET /msi/token: the endpoint of a managed identity, as Azure's app service has one (its api-version 2019-08-01).

Azure's samples begin with DefaultAzureCredential(). It asks this endpoint if IDENTITY_ENDPOINT names it, with the text
of IDENTITY_HEADER as its proof. That text is a Luthier key here, and so is the token that it gets: whoever may ask for
the token has it already, and the key is checked with each request that carries it.
"""

from typing import Annotated

from fastapi import Header
from fastapi.responses import Response
from msgspec import Struct

from luthier.api.auth import authentication
from luthier.api.dialects.error_answers import OpenAIError, OpenAIErrorBody
from luthier.api.routing.json_response import JsonResponse
from luthier.api.routing.operation import json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.errors import Unauthenticated

PATH = "/msi/token"
LIFETIME_S = 3600
"""How long a client keeps a token before it asks again."""


class Token(Struct, kw_only=True):
    """A token as Azure's credentials read it.

    `expires_on` is a text of seconds since 1970; `resource` is what was asked for.
    """

    access_token: str
    expires_on: str
    resource: str
    token_type: str = "Bearer"


class NoToken(Struct, kw_only=True):
    """Why there is no token. MSAL shows `statusCode` and `message`, and nothing else of an answer."""

    error: OpenAIErrorBody
    statusCode: int = 401
    message: str


def build_router(services: Services) -> Router:
    """The one route of this module. It needs no api-key: it checks the key of its own header."""
    context = services.context
    router = Router(tag="identity")

    @router.get(
        PATH,
        None,
        "Get the key of X-IDENTITY-HEADER as a token, as Azure's credentials ask for one",
        json_reply(Token),
        json_reply(NoToken, 401),
    )
    async def token(x_identity_header: Annotated[str, Header()] = "", resource: str = "") -> Response:
        """Answers with the key itself, for an hour; `resource` is echoed and not checked.

        401 without a key, or with one that opens nothing.
        """
        try:
            await authentication.caller_of(context, [x_identity_header] if x_identity_header else [])
        except Unauthenticated as error:
            text = f"IDENTITY_HEADER must be a key of Luthier. {error.message}"
            return JsonResponse(NoToken(error=OpenAIError.from_error(error).error, message=text), 401)
        expires_on = int(context.now().timestamp()) + LIFETIME_S
        answer = Token(access_token=x_identity_header, expires_on=str(expires_on), resource=resource)
        return JsonResponse(answer, headers={"cache-control": "no-store"})

    return router
