"""Notes what each client sends, step by step: an ASGI application in front of the service.

A drive program says at `MARK` which step it begins; what comes until the next one belongs to that step.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

Sent = dict[str, dict[str, dict[str, list[str]]]]
"""Body fields by scope, step and route (method and path)."""

MARK = "/tests/step"
COLUMNS = {
    "chat": "/chat/completions",
    "stream": "/chat/completions",
    "tools": "/chat/completions",
    "structured": "/chat/completions",
    "turns": "/chat/completions",
    "responses": "/responses",
    "responses stream": "/responses",
    "responses tools": "/responses",
    "responses structured": "/responses",
    "responses turns": "/responses",
    "conversation": "/responses",
    "embeddings": "/embeddings",
    "batches": "/batches",
}
"""The steps that every client has or has not, the columns of docs/clients.md, and where each must have asked."""
_NAMES = re.compile(r"(/deployments/|/models/|/responses/|/conversations/|/files/|/batches/)[^/]+")


@dataclass
class Recorder:
    """Routes and body fields by scope and step, in the order in which they came."""

    app: ASGIApp
    sent: Sent = field(default_factory=dict)
    _here: dict[str, list[str]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == MARK:
            about = parse_qs(scope["query_string"].decode())
            self._here = self.sent.setdefault(about["scope"][0], {}).setdefault(about["name"][0], {})
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})
            return
        body, here = bytearray(), self._here

        async def noted() -> Message:
            message = await receive()
            body.extend(message.get("body", b""))
            return message

        await self.app(scope, noted, send)
        if scope["type"] == "http" and here is not None:
            fields = here.setdefault(_route(scope), [])
            fields += [name for name in _fields(bytes(body)) if name not in fields]


def _route(scope: Scope) -> str:
    """Method and path with {} for names in it, and whether there is an api-version."""
    path = _NAMES.sub(r"\1{}", scope["path"])
    version = parse_qs(scope["query_string"].decode()).get("api-version")
    return f"{scope['method']} {path}" + (f"?api-version={version[0]}" if version else "")


def _fields(body: bytes) -> list[str]:
    """The top fields of a JSON body, sorted; none of any other body."""
    try:
        value = json.loads(body)
    except ValueError:
        return []
    return sorted(value) if isinstance(value, dict) else []


def astray(sent: Sent) -> Iterator[str]:
    """The steps that did not ask where their column says: a client may choose a route by itself."""
    for scope, steps in sent.items():
        for name, routes in steps.items():
            paths = {route.partition(" ")[2].partition("?")[0] for route in routes if route.startswith("POST ")}
            asked = {end for end in COLUMNS.values() for path in paths if path.endswith(end)}
            if name in COLUMNS and asked and asked != {COLUMNS[name]}:
                yield f"{scope}: {name}: asked {sorted(paths)}"
