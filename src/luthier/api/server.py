"""The ASGI application: routers of every dialect, health, and the one place where errors become HTTP."""

import logging
import math
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route
from starlette.types import Scope

from luthier import __version__
from luthier.api import arm, arm_accounts, dialects, kinds, middleware, older_paths, openapi, permissions
from luthier.api.audit_trail import AuditTrail
from luthier.api.routes import build_router
from luthier.api.services import Services
from luthier.core import errors
from luthier.core.errors import InvalidRequest, LuthierError, NotFound, UpstreamFailed

logger = logging.getLogger(__name__)

STATUS: dict[type[LuthierError], int] = {
    errors.InvalidRequest: 400,
    errors.Unsupported: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.QuotaExceeded: 429,
    errors.RateLimited: 429,
    errors.HeadersTooLarge: 431,
    errors.UpstreamFailed: 500,
    errors.Unavailable: 503,
    errors.NoSpace: 507,
}


def build(services: Services, lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None) -> FastAPI:
    """Puts the application together. Health routes need no key: `/healthz` is alive, `/readyz` can take work."""
    app = FastAPI(title="Luthier", version=__version__, lifespan=lifespan, redirect_slashes=False, openapi_url=None)
    routers = [build_router(dialect, services) for dialect in dialects.DIALECTS]
    for router in (*routers, arm.build_router(services), arm_accounts.build_router(services)):
        # Not include_router: it would look for the route twice in each request, through two further layers.
        app.router.routes.extend(router.routes)

    @app.get("/healthz", tags=["health"])
    def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", tags=["health"])
    def readyz() -> Response:
        ready = [name for name in services.context.catalog.entries if services.context.is_ready(name)]
        with services.context.database.reading():
            state = "ready" if ready else "no base model here yet; run: luthier models pull smollm2-135m-instruct"
        return JSONResponse({"status": state, "base_models": ready}, 200 if ready else 503)

    openapi.add(app)
    app.add_exception_handler(LuthierError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_bug)
    app.add_middleware(middleware.BodyCap, refuse=lambda scope, error: answer(scope, error))
    app.add_middleware(kinds.HeaderCap, refuse=lambda scope, error: answer(scope, error))
    app.add_middleware(AuditTrail, path=services.context.audit_file, now=services.context.now)
    app.add_middleware(middleware.RequestLog)
    app.add_middleware(older_paths.OlderPaths)
    permissions.check_routes(app.routes)
    return app


def answer(scope: Scope, error: LuthierError, status: int | None = None) -> JSONResponse:
    """An error in the words of the dialect that the path belongs to.

    `x-should-retry: false` keeps SDKs from asking again what cannot change by asking (contract section 2.6).
    """
    path = str(scope["path"])
    shape = arm.error(error) if path.startswith(arm.PREFIX) else dialects.of_path(path).error(error)
    code = status or STATUS[type(error)]
    headers = {} if isinstance(error, errors.RateLimited | errors.Unavailable) else {"x-should-retry": "false"}
    if isinstance(error, errors.RateLimited):
        headers |= {
            "retry-after": str(math.ceil(error.retry_after_s)),
            "retry-after-ms": str(math.ceil(error.retry_after_s * 1000)),
        }
        headers |= scope.get("state", {}).get("rate_headers", {})
    if code == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(shape, code, headers)


_BRANCH = re.compile(r"(str|int|float|bool)|[\w-]+\[.*\]|(constrained|function|lax-or-strict|nullable)-.*", re.DOTALL)
"""How pydantic names the branch of a union in the place of a fault: a word of its own, and no part of the body."""


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, LuthierError)
    return answer(request.scope, error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    """Every fault of the body or query at once: the first as the error itself, all in its message and details."""
    assert isinstance(error, RequestValidationError)
    details = [_detail(fault["loc"], fault["msg"], fault["type"]) for fault in error.errors()]
    text = " ".join(f"{detail.param or 'body'}: {detail.message}." for detail in details[:10])
    first = details[0]
    return answer(request.scope, InvalidRequest(first.code, text, first.param, details))


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = ", ".join(_allowed(request))
        text = f"{request.method} is not allowed here; allowed: {allowed}."
        refused = answer(request.scope, InvalidRequest("method_not_allowed", text), 405)
        refused.headers["allow"] = allowed
        return refused
    if error.status_code == 404:
        text = f"Resource not found: there is no route {request.method} {request.url.path}. Check the base URL."
        return answer(request.scope, NotFound("route_not_found", text))
    return answer(request.scope, InvalidRequest("invalid_request", str(error.detail)), error.status_code)


def _allowed(request: Request) -> list[str]:
    """The methods of the routes that name this path most closely: the first that has it knows only its own."""
    asked = request.scope
    shape = {"type": "http", "path": asked["path"], "root_path": asked.get("root_path", ""), "headers": []}
    found = [
        (method, route.path.count("{"))
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        for route in request.app.routes
        if isinstance(route, Route) and route.matches(shape | {"method": method})[0] is Match.FULL
    ]
    least = min((parameters for _, parameters in found), default=0)
    return list(dict.fromkeys(method for method, parameters in found if parameters == least))


async def _on_bug(request: Request, error: Exception) -> Response:
    """This answer is made outside of every middleware: it carries the request's id and its log line by itself."""
    request_id = str(request.scope.get("state", {}).get("request_id", "-"))
    logger.error("bug in request id=%s kind=%s", request_id, type(error).__name__)
    text = f"Something broke in the service; the log has the reason under request id {request_id}."
    response = answer(request.scope, UpstreamFailed("internal_error", text))
    response.headers.update({"x-request-id": request_id, "apim-request-id": request_id})
    return response


def _detail(loc: tuple[int | str, ...], message: str, kind: str) -> errors.ErrorDetail:
    path = ""
    for part in loc[1:]:
        if isinstance(part, str) and _BRANCH.fullmatch(part):
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    match kind:
        case "missing":
            return errors.ErrorDetail("missing_field", "this field is required", path or None)
        case "extra_forbidden":
            return errors.ErrorDetail("unknown_field", "this field is not known here, or cannot be honoured", path)
        case "json_invalid":
            return errors.ErrorDetail("invalid_json", "the body is no valid JSON", None)
        case _:
            return errors.ErrorDetail("invalid_value", message.removeprefix("Value error, "), path or None)
