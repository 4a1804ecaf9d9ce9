"""Who is calling: the key from either vendor's header, and the api-version that Azure's dated dialect asks for."""

import re
from collections.abc import Awaitable, Callable

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from luthier.api import permissions
from luthier.api.dialects import Dialect
from luthier.core.errors import InvalidRequest
from luthier.core.models import Principal
from luthier.service import keys
from luthier.service.context import Context

VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?|preview|v1|latest")


def require_key(context: Context) -> Callable[[Request], Awaitable[Principal]]:
    """A dependency that gives the caller, if its role allows what the route does.

    Raises Unauthenticated, Forbidden, and Unavailable where a token cannot be checked now.
    """

    async def principal(request: Request) -> Principal:
        presented = [request.headers["api-key"]] if "api-key" in request.headers else []
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            presented.append(token.strip())
        # A key that is remembered costs no way to a worker thread and back, which costs more than the look-up itself.
        caller = keys.recall(context, presented)
        if caller is None:
            caller = await run_in_threadpool(keys.authenticate, context, presented)
        path = request.scope["route"].path
        action = permissions.action_of(request.method, path)
        assert action is not None, f"no action for {path}"  # the start of the service has looked at every route
        request.scope["state"] |= {"caller": caller, "action": action, "route": path}
        permissions.require(caller, action)
        return caller

    return principal


def require_version(dialect: Dialect) -> Callable[[Request], Awaitable[None]]:
    """A dependency that checks `api-version`: any dated version is served alike, none is an error."""

    async def check(request: Request) -> None:
        version = request.query_params.get("api-version")
        if version is None:
            if dialect.needs_api_version:
                raise InvalidRequest(
                    "missing_api_version",
                    "The api-version query parameter (?api-version=) is required for all requests here; "
                    "for example api-version=2024-10-21.",
                    "api-version",
                )
        elif not VERSION.fullmatch(version):
            raise InvalidRequest(
                "invalid_api_version",
                f"api-version {version!r} is no version; write a date such as 2024-10-21.",
                "api-version",
            )

    return check
