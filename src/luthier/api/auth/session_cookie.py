"""The portal's session in a cookie, which also authenticates requests of its pages' script to the public API.

The cookie is HttpOnly and SameSite=Strict, so no other site's page sends it or reads it. A request that changes
something carries the session's CSRF token as well.
"""

from fastapi import Request, Response

from luthier.service.tenants import sessions

NAME = "luthier_session"
SECURE_NAME = f"__Host-{NAME}"
"""Over HTTPS: browsers take a cookie of this name only with Secure, for this host and every path."""
CSRF_HEADER = "x-csrf-token"
_READS = frozenset({"GET", "HEAD"})


def token_of(request: Request) -> str | None:
    """The token in the request's cookie; None without one, and for a text that no session has."""
    # Over https only the name that no page of another host could have set.
    token = request.cookies.get(SECURE_NAME if request.url.scheme == "https" else NAME)
    return token if token is not None and sessions.is_token(token) else None


def of_request(request: Request) -> str | None:
    """The session's token if the request may use it: it only reads, or its header has the session's CSRF token."""
    token = token_of(request)
    if token is None or request.method in _READS:
        return token
    return token if sessions.is_csrf_token(token, request.headers.get(CSRF_HEADER, "")) else None


def set_on(response: Response, request: Request, token: str) -> None:
    """Puts the session into the answer's cookie, until it ends; Secure if the request came over HTTPS."""
    secure = request.url.scheme == "https"
    response.set_cookie(
        SECURE_NAME if secure else NAME,
        token,
        max_age=int(sessions.LIFETIME.total_seconds()),
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def remove_from(response: Response) -> None:
    """Has the browser forget the session."""
    response.delete_cookie(NAME, path="/", httponly=True, samesite="strict")
    response.delete_cookie(SECURE_NAME, path="/", secure=True, httponly=True, samesite="strict")
