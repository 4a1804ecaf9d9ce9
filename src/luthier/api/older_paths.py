"""Paths that older clients call by mistake or by an old habit, said as today's; one table, no route twice.

openai 0.28.1 asks for events at the host's root, without prefix and version; openai up to 1.64 with `azure_deployment=`
puts `/deployments/{name}` before everything; 0.28.1 with `engine=` says engines for deployments (contract sections 2.1
and 2.8).
"""

import re
from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send

_TABLE = (
    (re.compile(r"/(?:fine_tuning/jobs|fine-tunes)/([^/]+)/events"), r"/openai/fine_tuning/jobs/\1/events"),
    (re.compile(r"/openai/deployments/[^/]+/((?:files|uploads|fine_tuning|models)(?:/.*)?)"), r"/openai/\1"),
    (re.compile(r"/openai/engines/([^/]+)/((?:chat/)?completions)"), r"/openai/deployments/\1/\2"),
)
_UNVERSIONED = b"api-version=2024-10-21"
"""What a call at the root is taken to mean: that client sends no version there."""


class OlderPaths:
    """Hands a request on under the path that the table gives for its own."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = _renamed(scope)
        await self._app(scope, receive, send)


def _renamed(scope: Scope) -> Scope:
    path = scope["path"]
    for pattern, target in _TABLE:
        if found := pattern.fullmatch(path):
            renamed = {**scope, "path": found.expand(target)}
            renamed["raw_path"] = quote(renamed["path"]).encode()
            query = scope.get("query_string", b"")
            if not path.startswith("/openai/") and b"api-version=" not in query:
                renamed["query_string"] = query + (b"&" if query else b"") + _UNVERSIONED
            return renamed
    return scope
