"""A route of the data plane: matched quickly, and run in the writer threads if it changes something.

`routes.build_router` registers the dialects' routes with it; the control plane's use GuardedRoute itself.
"""

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
    """Runs endpoints that write in `Workers.WRITES`, where they wait for each other and hold up no read."""

    def responding(self, endpoint: Callable[..., Any], method: str) -> Callable[..., Any]:
        """As the base's; a plain `def` that is no GET or HEAD becomes a coroutine that runs it in a writer thread."""
        if method in _READS or inspect.iscoroutinefunction(endpoint):
            return super().responding(endpoint, method)
        respond = guarded_route.json_endpoint(endpoint, self.operation)

        @functools.wraps(endpoint)
        async def respond_in_writer(*values: Any, **named: Any) -> Response:
            return await thread_pools.run(Workers.WRITES, functools.partial(respond, *values, **named))

        return respond_in_writer

    @functools.cached_property
    def _literal_prefix(self) -> str:
        """The path up to its first parameter: no path without it can match."""
        return self.path.partition("{")[0]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As the base's, and Match.NONE at once for a path with another beginning.

        Below a `root_path` the base decides.
        """
        if not scope.get("root_path") and not scope["path"].startswith(self._literal_prefix):
            return Match.NONE, {}  # most routes, at a tenth of what their pattern costs
        return super().matches(scope)
