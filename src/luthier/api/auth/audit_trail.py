"""Middleware that writes the audit line of every change, before the last byte of its answer is sent."""

import json
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.service.tenants import audit

MAX_PARSED_BYTES = 256 * 1024
"""The id of a created object is parsed from an answer of at most this length."""
_ID = re.compile(r"[\w./:-]+", re.ASCII)
_RESOURCE_PARAMETERS = frozenset({"subscription", "group", "account", "location"})
"""Path parameters that name the resource, which is a field of the line anyway."""


class AuditTrail:
    """Appends one line to the audit file for each authenticated request whose action is a change, whatever its outcome.

    `path` is that file, `now` the clock. A kill between the change and its answer leaves the change without a line.
    """

    def __init__(self, app: ASGIApp, path: Path, now: Callable[[], datetime]) -> None:
        self._app = app
        self._path = path
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on; writes its line before the answer's last part, or as a 500 if that was never sent."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, content_type, body, is_written = 500, "", bytearray(), False

        async def send_and_record(message: Message) -> None:
            """Sends a part of the answer; keeps its status and its beginning, and writes the line at the last part."""
            nonlocal status, content_type, is_written
            if message["type"] == "http.response.start":
                status = message["status"]
                content_type = Headers(raw=message["headers"]).get("content-type", "")
            elif message["type"] == "http.response.body" and _is_change(scope):
                body.extend(message.get("body", b"")[: MAX_PARSED_BYTES + 1 - len(body)])
                if not message.get("more_body", False) and not is_written:
                    is_written = True
                    created_id = (
                        _created_id(bytes(body)) if 200 <= status < 300 and content_type == "application/json" else ""
                    )
                    await self._write(scope, status, created_id)
            await send(message)

        try:
            await self._app(scope, receive, send_and_record)
        finally:
            if not is_written and _is_change(scope):
                await self._write(scope, status, "")

    async def _write(self, scope: Scope, status: int, created_id: str) -> None:
        """Appends the line, in a worker thread: it is synced to disk.

        Reads caller, action, route and request id from the scope's state. The line's id is that of the path, else the
        created object's, else the account's name.
        """
        caller: Principal = scope["state"]["caller"]
        action: Action = scope["state"]["action"]
        path_ids = [
            _loggable(str(value))
            for name, value in scope.get("path_params", {}).items()
            if name not in _RESOURCE_PARAMETERS
        ]
        entry = audit.make_entry(
            self._now(),
            caller.resource.account,
            caller.key_name,
            action,
            f"{scope['method']} {scope['state']['route']}",
            "/".join(path_ids) or created_id or caller.resource.account,
            status,
            scope["state"]["request_id"],
        )
        # A caller who leaves once it has all bytes ends a streamed answer at this very point.
        with anyio.CancelScope(shield=True):
            await run_in_threadpool(audit.append, self._path, entry)


def _is_change(scope: Scope) -> bool:
    """Whether the request was authenticated for an action that changes something; else it leaves no line."""
    action = scope.get("state", {}).get("action")
    return isinstance(action, Action) and action.is_change


def _loggable(value: str) -> str:
    """A path parameter if it has the form of an id, else `?`: a caller's text is not logged."""
    return value if _ID.fullmatch(value) else "?"


def _created_id(answer: bytes) -> str:
    """The id of the object that a request created, from its answer; empty if there is none, or the answer too long."""
    if len(answer) > MAX_PARSED_BYTES:
        return ""
    try:
        value = json.loads(answer)
    except ValueError:
        return ""
    id = value.get("id") if isinstance(value, dict) else None
    return id if isinstance(id, str) and _ID.fullmatch(id) else ""
