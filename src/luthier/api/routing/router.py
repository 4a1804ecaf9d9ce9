"""Registers the routes of one prefix, each with its action, summary and replies.

FastAPI's own router would let a route leave out the action, and with it the check of the key.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, Unpack

from fastapi.params import Depends

from luthier.api.routing.guarded_route import GuardedRoute
from luthier.api.routing.operation import Details, Operation, Reply
from luthier.core.roles import Action

EndpointT = TypeVar("EndpointT", bound=Callable[..., Any])


class Decorator(Protocol):
    """What `Router.get` and the others return: registers an endpoint and gives it back unchanged."""

    def __call__(self, endpoint: EndpointT, /) -> EndpointT: ...


class Router:
    """Collects the routes of one prefix in `routes`, which `server.build` adds to the application.

    None can be registered without an action, or None for a route that needs no key. `dependencies` run before each
    endpoint; `tag` groups the routes in the OpenAPI document.
    """

    def __init__(
        self,
        *,
        tag: str,
        prefix: str = "",
        dependencies: Sequence[Depends] = (),
        route_class: type[GuardedRoute] = GuardedRoute,
    ) -> None:
        """`prefix` precedes each path; `route_class` is what a route is made of."""
        self.routes: list[GuardedRoute] = []
        self._tag = tag
        self._prefix = prefix
        self._dependencies = list(dependencies)
        self._route_class = route_class

    def get(
        self, path: str, action: Action | None, summary: str, *replies: Reply, **details: Unpack[Details]
    ) -> Decorator:
        """As `route`, for GET."""
        return self.route(("GET",), path, action, summary, *replies, **details)

    def head(
        self, path: str, action: Action | None, summary: str, *replies: Reply, **details: Unpack[Details]
    ) -> Decorator:
        """As `route`, for HEAD."""
        return self.route(("HEAD",), path, action, summary, *replies, **details)

    def post(
        self, path: str, action: Action | None, summary: str, *replies: Reply, **details: Unpack[Details]
    ) -> Decorator:
        """As `route`, for POST."""
        return self.route(("POST",), path, action, summary, *replies, **details)

    def patch(
        self, path: str, action: Action | None, summary: str, *replies: Reply, **details: Unpack[Details]
    ) -> Decorator:
        """As `route`, for PATCH."""
        return self.route(("PATCH",), path, action, summary, *replies, **details)

    def delete(
        self, path: str, action: Action | None, summary: str, *replies: Reply, **details: Unpack[Details]
    ) -> Decorator:
        """As `route`, for DELETE."""
        return self.route(("DELETE",), path, action, summary, *replies, **details)

    def route(
        self,
        methods: tuple[str, ...],
        path: str,
        action: Action | None,
        summary: str,
        *replies: Reply,
        **details: Unpack[Details],
    ) -> Decorator:
        """Registers the decorated endpoint under each method. The first reply has the status of a plain answer.

        Raises TypeError if the route needs a key and its endpoint takes no caller.
        """
        operation = Operation(action=action, summary=summary, replies=replies, **details)

        def register(endpoint: EndpointT) -> EndpointT:
            """Appends a route for each method to `routes`; returns the endpoint, which can be decorated again."""
            for method in methods:
                self.routes.append(
                    self._route_class(
                        self._prefix + path,
                        endpoint,
                        operation,
                        method=method,
                        tag=self._tag,
                        dependencies=self._dependencies,
                    )
                )
            return endpoint

        return register
