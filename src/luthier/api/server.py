"""The ASGI application: the routers of every dialect, and the one place where errors become HTTP answers."""

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from luthier import __version__
from luthier.api.arm import arm_accounts, arm_deployments, arm_models, arm_names, managed_identity
from luthier.api.arm.arm_answers import ArmError
from luthier.api.auth.audit_trail import AuditTrail
from luthier.api.dialects import dialects, error_answers, unserved_paths
from luthier.api.http import call_spans, path_aliases, request_log
from luthier.api.intake import content_types
from luthier.api.openapi import openapi_document
from luthier.api.requests import validation_errors
from luthier.api.routes import build_router, health
from luthier.api.routes.extensions import (
    job_details,
    job_estimate,
    job_metrics,
    model_exports,
    prometheus,
    served_models,
    service_status,
    training_rows,
)
from luthier.api.routes.inference.background_responses import BackgroundResponses
from luthier.api.routing import guarded_route
from luthier.api.routing.json_response import JsonResponse
from luthier.api.services import Services
from luthier.core import errors
from luthier.core.errors import InvalidRequest, LuthierError, NotFound, UpstreamFailed
from luthier.service.inference import answer_spans

logger = logging.getLogger(__name__)
refusals = logging.getLogger(f"{__name__}.refusals")
"""Peers can cause these lines: `listening.limit_logs` limits them to a few a minute of each kind."""


_LOGGED = (
    errors.Unauthenticated,
    errors.Forbidden,
    errors.QuotaExceeded,
    errors.RateLimited,
    errors.UpstreamFailed,
    errors.Unavailable,
    errors.NoSpace,
)
"""Errors that may need an operator and are logged; the others concern only the caller."""


def build(
    services: Services,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None,
    pages: Sequence[BaseRoute] = (),
) -> FastAPI:
    """The application: the routes of every dialect, the error handlers and the middleware, outermost last.

    `lifespan` starts and stops the background work (None: nothing); `pages` are the portal's, which guard themselves.
    Raises RuntimeError if a route lacks an action.
    """
    app = FastAPI(title="Luthier", version=__version__, lifespan=lifespan, redirect_slashes=False, openapi_url=None)
    app.state.intake = services.intake
    app.state.background_responses = BackgroundResponses(services)
    routers = [build_router(dialect, services) for dialect in dialects.DIALECTS]
    extensions = (
        service_status,
        served_models,
        model_exports,
        job_metrics,
        job_details,
        job_estimate,
        training_rows,
        prometheus,
    )
    others = (arm_deployments, arm_accounts, arm_models, *extensions, health, managed_identity)
    for router in (*routers, *(part.build_router(services) for part in others)):
        # Not include_router: it would look for the route twice in each request, through two further layers.
        app.router.routes.extend(router.routes)
    openapi_document.add_routes(app)
    app.router.routes.extend(pages)
    app.add_exception_handler(LuthierError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_bug)
    app.add_middleware(content_types.HeaderCap, refuse=lambda scope, error: answer(scope, error))
    if services.spans is not None:
        app.add_middleware(call_spans.CallSpans, source=services.spans)
    app.add_middleware(AuditTrail, path=services.context.audit_file, now=services.context.now)
    app.add_middleware(request_log.RequestLog, observe=services.metrics.observe_request)
    app.add_middleware(path_aliases.PathAliases)
    guarded_route.check_routes(app.routes)
    return app


async def resume(app: FastAPI) -> None:
    """Continues what the process before this one had not ended: responses in the background."""
    background: BackgroundResponses = app.state.background_responses
    await background.resume()


async def end(app: FastAPI) -> None:
    """Ends what is generated without a caller; the next process continues it."""
    background: BackgroundResponses = app.state.background_responses
    await background.close()


def answer(scope: Scope, error: LuthierError, status: int | None = None) -> Response:
    """An error in the envelope of the dialect that the path belongs to; `status` overrides that of the error's class.

    `x-should-retry: false` keeps SDKs from a retry that cannot succeed (wire-contract.md section 2.6). Unavailable and
    RateLimited have `retry-after` instead, if the time is known, and RateLimited the headers in the state's
    `rate_headers`.
    """
    path = str(scope["path"])
    envelope = ArmError if path.startswith(arm_names.PREFIX) else dialects.of_path(path).error
    code = status or error_answers.status_of(error)
    headers = {} if isinstance(error, errors.RateLimited | errors.Unavailable) else {"x-should-retry": "false"}
    if isinstance(error, errors.RateLimited | errors.Unavailable) and error.retry_after_s is not None:
        headers |= {
            "retry-after": str(math.ceil(error.retry_after_s)),
            "retry-after-ms": str(math.ceil(error.retry_after_s * 1000)),
        }
    if isinstance(error, errors.RateLimited):
        headers |= scope.get("state", {}).get("rate_headers", {})
    if code == 401:
        headers["www-authenticate"] = "Bearer"
    return JsonResponse(envelope.from_error(error), code, headers)


async def _on_error(request: Request, error: Exception) -> Response:
    """The handler of LuthierError: a use case refused the request.

    Logs those of `_LOGGED` without the caller's text, and answers with the class's status.
    """
    assert isinstance(error, LuthierError)
    answer_spans.note_error(error.code)
    if isinstance(error, _LOGGED):
        line = (
            f"refused status={error_answers.status_of(error)} code={error.code} id=%s"  # a code is a constant of ours
        )
        level = logging.WARNING if error_answers.status_of(error) >= 500 else logging.INFO
        refusals.log(level, line, request.scope.get("state", {}).get("request_id", "-"))
    return answer(request.scope, error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    """The handler of pydantic's errors in body or query: 400.

    Its code and param are the first error's; the message has up to ten, the details all.
    """
    assert isinstance(error, RequestValidationError)
    answer_spans.note_error("invalid_request")
    return answer(request.scope, validation_errors.invalid_request(error.errors(), _body_model(request)))


def _body_model(request: Request) -> type[BaseModel] | None:
    """The pydantic model of the matched route's JSON body, for hints on its fields; None if no route or no model."""
    route = request.scope.get("route")
    if not isinstance(route, APIRoute) or route.body_field is None:
        return None
    annotation = route.body_field.field_info.annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


async def _on_http(request: Request, error: Exception) -> Response:
    """The handler of the framework's own errors: no such path, no such method, or a request that cannot be read.

    404 has a hint for the path, 405 the allowed methods in `Allow`; any other keeps its status.
    """
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = ", ".join(_allowed(request))
        text = f"{request.method} is not allowed here; allowed: {allowed}."
        if hint := unserved_paths.hint_for_method(request.method, request.url.path):
            text += f" {hint}"
        refused = answer(request.scope, InvalidRequest("method_not_allowed", text), 405)
        refused.headers["allow"] = allowed
        return refused
    if error.status_code == 404:
        text = unserved_paths.not_found_message(request.method, str(request.scope["path"]), request.app.routes)
        return answer(request.scope, NotFound("route_not_found", text))
    text = f"The request cannot be read (HTTP {error.status_code}). Check its headers and its body."
    return answer(request.scope, InvalidRequest("invalid_request", text), error.status_code)


def _allowed(request: Request) -> list[str]:
    """The methods of the most specific routes of this path, each of which has only its own."""
    requested = request.scope
    shape = {"type": "http", "path": requested["path"], "root_path": requested.get("root_path", ""), "headers": []}
    allowed = [
        (method, route.path.count("{"))
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        for route in request.app.routes
        if isinstance(route, Route) and route.matches(shape | {"method": method})[0] is Match.FULL
    ]
    fewest = min((parameters for _, parameters in allowed), default=0)
    return list(dict.fromkeys(method for method, parameters in allowed if parameters == fewest))


async def _on_bug(request: Request, error: Exception) -> Response:
    """The handler of every other exception: a 500 that tells the caller only the request's id.

    It runs outside of every middleware, so it sets the id's headers and logs the exception's class itself.
    """
    request_id = str(request.scope.get("state", {}).get("request_id", "-"))
    logger.error("bug in request id=%s kind=%s", request_id, type(error).__name__)
    text = f"Internal error; the service's log has the reason under request id {request_id}."
    response = answer(request.scope, UpstreamFailed("internal_error", text))
    response.headers.update({"x-request-id": request_id, "apim-request-id": request_id})
    return response
