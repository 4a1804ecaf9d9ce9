"""A route that checks the key first, then the body's length and content type, and only then reads the body.

FastAPI reads and parses a body before it calls any dependency, the one for the key included.
"""

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.params import Depends
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from luthier.api.auth.authentication import KeyCheck
from luthier.api.intake import content_types, json_body
from luthier.api.intake.body_limits import Intake
from luthier.api.intake.body_stream import BodyReader
from luthier.api.intake.json_body import HeldBytes
from luthier.api.routing.json_response import JsonResponse
from luthier.api.routing.operation import Operation

PUBLIC_PATHS = frozenset(
    {"/healthz", "/readyz", "/openapi.json", "/docs", "/docs/assets", "/msi/token", "/", "/portal"}
)
"""Paths that need no key, the one that has it in a header of its own, and the portal, which asks for a session."""


class GuardedRoute(APIRoute):
    """Checks the key, then reads the body; leaves an unread one in `request.state.incoming` for the endpoint.

    What a plain `def` endpoint returns is sent as it is. FastAPI would copy an answer field by field and check it
    against its annotation, which for a list of twenty jobs takes longer than the query. Raises TypeError at
    registration if the operation has an action, and the endpoint no parameter that checks the key.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        operation: Operation,
        *,
        method: str,
        tag: str,
        dependencies: list[Depends],
    ) -> None:
        self.operation = operation
        super().__init__(
            path,
            self.responding(endpoint, method),
            methods=[method],
            status_code=operation.replies[0].status,
            tags=[tag],
            dependencies=dependencies,
            response_model=None,
        )
        if operation.action is not None and self.key_check is None:
            raise TypeError(f"{method} {path} needs a key, and its endpoint takes no caller")

    @property
    def key_check(self) -> KeyCheck | None:
        """The dependency that checks this route's key; None for a public route."""
        return _key_check(self.dependant)

    def responding(self, endpoint: Callable[..., Any], method: str) -> Callable[..., Any]:
        """The endpoint, wrapped so that it returns a response; `async` ones return one themselves."""
        return endpoint if inspect.iscoroutinefunction(endpoint) else json_endpoint(endpoint, self.operation)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler behind `guarded`: called once when the route is made."""
        answer = super().get_route_handler()
        check, field, action = self.key_check, self.body_field, self.operation.action

        async def guarded(request: Request) -> Response:
            """Answers one request.

            Authenticates and authorizes before a byte of the body is read, then reads a JSON body whole or leaves the
            reader of it in the state. Raises what the steps raise: 401, 403, 408, 413, 415, 429 and 400.
            """
            if check is None or action is None:
                return await answer(request)
            intake: Intake = request.app.state.intake
            caller = await check.admit(request, action)
            incoming = BodyReader(request, self.operation.max_body_bytes, intake.limits)
            if field is None:
                request.state.incoming = incoming
                return await answer(request)
            content_types.require_json(request)
            request.state.held = held = HeldBytes(intake, caller.resource.id)
            return await answer(await json_body.read_json(request, incoming, held, intake, field))

        return guarded

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the route; the body's bytes count as held until the answer is sent: what was parsed lives as long."""
        try:
            await super().handle(scope, receive, send)
        finally:
            held: HeldBytes | None = scope.get("state", {}).get("held")
            if held is not None:
                held.release()


def json_endpoint(endpoint: Callable[..., Any], operation: Operation) -> Callable[..., Response]:
    """The endpoint, wrapped so that its answer is encoded in the same thread; a Response passes unchanged."""
    status = operation.replies[0].status

    @functools.wraps(endpoint)
    def respond(*values: Any, **named: Any) -> Response:
        """Calls the endpoint, and encodes its answer with the status of the operation's first reply."""
        answer = endpoint(*values, **named)
        return answer if isinstance(answer, Response) else JsonResponse(answer, status)

    return respond


def check_routes(routes: Iterable[BaseRoute]) -> None:
    """Raises RuntimeError, so that the service does not start, for routes that were registered without an action."""
    guarded = {
        (method, route.path)
        for route in routes
        if isinstance(route, GuardedRoute) and route.operation.action is not None
        for method in route.methods or ()
    }
    missing = [f"{method} {path}" for method, path in protected(routes) if (method, path) not in guarded]
    if missing:
        raise RuntimeError(f"these routes are registered without an action: {', '.join(missing)}")


def protected(routes: Iterable[BaseRoute]) -> list[tuple[str, str]]:
    """Method and path template of every route that needs a key."""
    return [
        (method, route.path or "")
        for route in iter_route_contexts(list(routes))
        if route.path not in PUBLIC_PATHS
        for method in sorted(route.methods or {"GET"})
    ]


def _key_check(dependant: Dependant) -> KeyCheck | None:
    """The KeyCheck among a dependency and, depth first, what it depends on; None if there is none."""
    if isinstance(dependant.call, KeyCheck):
        return dependant.call
    return next((check for one in dependant.dependencies if (check := _key_check(one)) is not None), None)
