"""Around every request that asks for a change: its audit line, written before the answer is whole."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.service import audit

MAX_ANSWER_BYTES = 256 * 1024
"""The id of a new thing is read out of an answer of at most this length."""
_ID = re.compile(r"[\w./:-]+", re.ASCII)
_OF_PATH = frozenset({"subscription", "group", "account", "location"})
"""Parameters of a path that name the resource, which the line has already."""


class AuditTrail:
    """Writes one line for a request whose caller is known and whose action is a change, whatever came of it.

    A kill between the change and its answer leaves the change without a line.
    """

    def __init__(self, app: ASGIApp, path: Path, now: Callable[[], datetime]) -> None:
        self._app = app
        self._path = path
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, kind, answer, is_written = 500, "", bytearray(), False

        async def watched(message: Message) -> None:
            nonlocal status, kind, is_written
            if message["type"] == "http.response.start":
                status = message["status"]
                kind = Headers(raw=message["headers"]).get("content-type", "")
            elif message["type"] == "http.response.body" and _is_change(scope):
                if len(answer) <= MAX_ANSWER_BYTES:
                    answer.extend(message.get("body", b""))
                if not message.get("more_body", False) and not is_written:
                    is_written = True
                    made = _made(bytes(answer)) if 200 <= status < 300 and kind == "application/json" else ""
                    await self._write(scope, status, made)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            if not is_written and _is_change(scope):
                await self._write(scope, status, "")

    async def _write(self, scope: Scope, status: int, made: str) -> None:
        caller: Principal = scope["state"]["caller"]
        action: Action = scope["state"]["action"]
        named = [str(value) for name, value in scope.get("path_params", {}).items() if name not in _OF_PATH]
        entry = audit.entry(
            self._now(),
            caller.resource.account,
            caller.key_name,
            action,
            f"{scope['method']} {scope['state']['route']}",
            "/".join(named) or made or caller.resource.account,
            status,
            scope["state"]["request_id"],
        )
        await run_in_threadpool(audit.append, self._path, entry)


def _is_change(scope: Scope) -> bool:
    action = scope.get("state", {}).get("action")
    return isinstance(action, Action) and action.is_change


def _made(answer: bytes) -> str:
    """The id of what a request has made, out of its answer."""
    try:
        value = json.loads(answer)
    except ValueError:
        return ""
    id = value.get("id") if isinstance(value, dict) else None
    return id if isinstance(id, str) and _ID.fullmatch(id) else ""
