"""Registers the routes of one prefix, each with its action, summary and replies."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, Unpack

from fastapi.params import Depends

from luthier.api.routing.guarded_route import GuardedRoute
from luthier.api.routing.operation import Details, Operation, Reply
from luthier.core.roles import Action

EndpointT = TypeVar("EndpointT", bound=Callable[..., Any])


class Decorator(Protocol):
    """Registers an endpoint and gives it back."""

    def __call__(self, endpoint: EndpointT, /) -> EndpointT: ...


class Router:
    """Collects routes. None can be registered without an action, or None for a route that needs no key."""

    def __init__(
        self,
        *,
        tag: str,
        prefix: str = "",
        dependencies: Sequence[Depends] = (),
        route_class: type[GuardedRoute] = GuardedRoute,
    ) -> None:
        self.routes: list[GuardedRoute] = []
        self._tag = tag
        self._prefix = prefix
        self._dependencies = list(dependencies)
        self._route_class = route_class

    def get(
        self, path: str, action: Action | None, summary: str, *replies: Reply, **details: Unpack[Details]
    ) -> Decorator:
        return self.route(("GET",), path, action, summary, *replies, **details)

    def head(
        self, path: str, action: Action | None, summary: str, *replies: Reply, **details: Unpack[Details]
    ) -> Decorator:
        return self.route(("HEAD",), path, action, summary, *replies, **details)

    def post(
        self, path: str, action: Action | None, summary: str, *replies: Reply, **details: Unpack[Details]
    ) -> Decorator:
        return self.route(("POST",), path, action, summary, *replies, **details)

    def patch(
        self, path: str, action: Action | None, summary: str, *replies: Reply, **details: Unpack[Details]
    ) -> Decorator:
        return self.route(("PATCH",), path, action, summary, *replies, **details)

    def delete(
        self, path: str, action: Action | None, summary: str, *replies: Reply, **details: Unpack[Details]
    ) -> Decorator:
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
        """Registers the decorated endpoint under each method. The first reply has the status of a plain answer."""
        operation = Operation(action=action, summary=summary, replies=replies, **details)

        def register(endpoint: EndpointT) -> EndpointT:
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
