"""Aliases of paths, rewritten before routing; one table, so that no route is registered twice.

openai 0.28.1 asks for events at the host's root, without prefix and version; openai up to 1.64 with `azure_deployment=`
puts `/deployments/{name}` before everything; 0.28.1 with `engine=` says engines for deployments (wire-contract.md
sections 2.1 and 2.8). Foundry's project endpoint (`.../api/projects/NAME`, azure-ai-projects and azd) has the account's
paths below it, and azure-ai-inference calls paths below `.../models`. A project is no tenant here: the key determines
the resource, whatever the name of the project. Keys, roles and limits are those of the target route.
"""

import re
from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send

_PROJECT = re.compile(r"/api/projects/[^/]+(/(?:openai|models)(?:/.*)?)")
_TABLE = (
    (re.compile(r"/(?:fine_tuning/jobs|fine-tunes)/([^/]+)/events"), r"/openai/fine_tuning/jobs/\1/events"),
    (re.compile(r"/openai/deployments/[^/]+/((?:files|uploads|fine_tuning|models)(?:/.*)?)"), r"/openai/\1"),
    (re.compile(r"/openai/engines/([^/]+)/((?:chat/)?completions|embeddings)"), r"/openai/deployments/\1/\2"),
    (re.compile(r"/models/(chat/completions|embeddings)"), r"/openai/v1/\1"),
)
_AT_THE_ROOT = re.compile(r"/(?:fine_tuning|fine-tunes)/")
_DEFAULT_VERSION = b"api-version=2024-10-21"
"""Of a call at the root: openai 0.28.1 sends no version there."""


class PathAliases:
    """The outermost of our middleware: passes a request on under its canonical path, which all others see."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, an alias with a changed copy of its scope."""
        if scope["type"] == "http":
            scope = _renamed(scope)
        await self._app(scope, receive, send)


def canonical_path(path: str) -> str:
    """The path of the route that this path is an alias of; most paths are their own."""
    if match := _PROJECT.fullmatch(path):
        path = match[1]
    for pattern, target in _TABLE:
        if match := pattern.fullmatch(path):
            return match.expand(target)
    return path


def _renamed(scope: Scope) -> Scope:
    """A copy of the scope with the canonical path, and an api-version if need be; the scope itself without an alias."""
    path = scope["path"]
    target = canonical_path(path)
    if target == path:
        return scope
    renamed = {**scope, "path": target, "raw_path": quote(target).encode()}
    query = scope.get("query_string", b"")
    if _AT_THE_ROOT.match(path) and b"api-version=" not in query:
        renamed["query_string"] = query + (b"&" if query else b"") + _DEFAULT_VERSION
    return renamed
