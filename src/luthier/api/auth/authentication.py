"""Authentication: the key from either vendor's header, the right to the route's action, and Azure's api-version.

New requests ask `KeyCheck`; requests in progress ask `refusal` again, through `revocation.py`.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

from fastapi import Request

from luthier.api.auth import authorization, session_cookie
from luthier.api.dialects.dialects import Dialect
from luthier.api.http import thread_pools
from luthier.api.http.thread_pools import Workers
from luthier.core.errors import Forbidden, InvalidRequest, LuthierError, Unauthenticated, Unavailable
from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.service.context import Context
from luthier.service.tenants import keys, sessions

VERSION = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?|preview|v1|latest")


@dataclass(frozen=True, slots=True)
class Credentials:
    """The keys or tokens that a request presented, its caller and action: enough to authorize it once more."""

    presented: tuple[str, ...] = field(repr=False)
    caller: Principal
    action: Action

    @property
    def expires(self) -> bool:
        """Whether they can expire without any change in the database: a token can."""
        return self.caller.key_name.startswith("oidc:")


def credentials_of(request: Request) -> Credentials:
    """Those of a request that a KeyCheck has admitted. Raises KeyError for any other."""
    state = request.scope["state"]
    return Credentials(tuple(_presented(request)), state["caller"], state["action"])


def refusal(context: Context, credentials: Credentials) -> LuthierError | None:
    """The error that a new request of the caller would get now; None while it is authorized.

    Reads the database, and for a token may ask its issuer. An issuer that does not answer ends nothing: None. A key
    that opens another resource now is refused too. So a revoked key ends long answers.
    """
    try:
        caller = keys.authenticate(context, list(credentials.presented))
        authorization.require(caller, credentials.action)
    except (Unauthenticated, Forbidden) as error:
        return error
    except Unavailable:
        return None
    if caller.resource.id != credentials.caller.resource.id:
        return Unauthenticated("invalid_api_key", "Access denied: this key now opens another resource.")
    return None


def is_cached(context: Context, credentials: Credentials) -> bool:
    """Whether the first key is cached and still gives this caller since the last commit; never blocks."""
    return keys.recall_principal(context, list(credentials.presented)) == credentials.caller


def require_still_authorized(context: Context, credentials: Credentials) -> None:
    """Raises the error that a new request of the caller would get now: asked at the end of long calls."""
    error = refusal(context, credentials)
    if error is not None:
        raise error


class KeyCheck:
    """A dependency that gives the caller, if a role of it allows the route's action.

    A GuardedRoute calls `admit` before the body is read; the dependency then gives the admitted caller.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    async def __call__(self, request: Request) -> Principal:
        """What FastAPI injects as the endpoint's caller: the principal that `admit` has stored."""
        caller: Principal = request.scope["state"]["caller"]
        return caller

    async def admit(self, request: Request, action: Action) -> Principal:
        """Authenticates the caller and requires `action` of it; returns the caller.

        Writes caller, action and route into the request's state, of a forbidden caller too: the audit log names it.
        Raises Unauthenticated, Forbidden, and Unavailable if a token cannot be checked now.
        """
        caller = await caller_of(self._context, _presented(request))
        request.scope["state"] |= {"caller": caller, "action": action, "route": request.scope["route"].path}
        authorization.require(caller, action)
        return caller


async def caller_of(context: Context, presented: list[str]) -> Principal:
    """The caller whose keys or tokens these are: from the cache, else in a worker thread by database or issuer.

    Raises Unauthenticated; Unavailable if a token cannot be checked.
    """
    # A cached key needs no worker thread, and the hop to one costs more than the lookup.
    caller = keys.recall_principal(context, presented)
    if caller is not None:
        return caller
    threads = Workers.TOKENS if any(keys.may_be_token(one) for one in presented) else Workers.KEYS
    return await thread_pools.run(threads, partial(keys.authenticate, context, presented))


def require_key(context: Context) -> KeyCheck:
    """The dependency of a route that needs a key."""
    return KeyCheck(context)


def _presented(request: Request) -> list[str]:
    """Every key or token of the request, `api-key` first, then the bearer token; without any, the portal's session.

    An empty list if there is none of them.
    """
    presented = [request.headers["api-key"]] if "api-key" in request.headers else []
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        presented.append(token.strip())
    presented = [key for key in presented if not sessions.is_token(key)]  # a session is no key: it needs its cookie
    if not presented and (session := session_cookie.of_request(request)) is not None:
        return [session]
    return presented


def require_version(dialect: Dialect) -> Callable[[Request], Awaitable[None]]:
    """A dependency that checks `api-version` for one dialect: every version is served alike."""

    async def check(request: Request) -> None:
        """Raises InvalidRequest for a version that is malformed, or missing where the dialect requires one."""
        version = request.query_params.get("api-version")
        if version is None:
            if dialect.needs_api_version:
                raise InvalidRequest(
                    "missing_api_version",
                    "The api-version query parameter (?api-version=) is required for all requests here; "
                    "for example api-version=2024-10-21. The base URL .../openai/v1 needs none.",
                    "api-version",
                )
        elif not VERSION.fullmatch(version):
            raise InvalidRequest(
                "invalid_api_version",
                f"api-version {version!r} is not a version; write a date such as 2024-10-21.",
                "api-version",
            )

    return check
