"""A route of the data plane: matched quickly, and run in the writer threads if it changes something."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from fastapi.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from luthier.api.http import thread_pools
from luthier.api.http.thread_pools import Workers
from luthier.api.routing import guarded_route
from luthier.api.routing.guarded_route import GuardedRoute

_READS = frozenset({"GET", "HEAD"})


class DataPlaneRoute(GuardedRoute):
    """Endpoints that write run in threads of their own, which wait for one another: those that read are not held up."""

    def responding(self, endpoint: Callable[..., Any], method: str) -> Callable[..., Any]:
        if method in _READS or inspect.iscoroutinefunction(endpoint):
            return super().responding(endpoint, method)
        respond = guarded_route.json_endpoint(endpoint, self.operation)

        @functools.wraps(endpoint)
        async def respond_in_writer(*values: Any, **named: Any) -> Response:
            return await thread_pools.run(Workers.WRITES, functools.partial(respond, *values, **named))

        return respond_in_writer

    @functools.cached_property
    def _literal_prefix(self) -> str:
        return self.path.partition("{")[0]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if not scope.get("root_path") and not scope["path"].startswith(self._literal_prefix):
            return Match.NONE, {}  # most routes, at a tenth of what their pattern costs
        return super().matches(scope)
