"""The HTTP protocol of the server: uvicorn's over h11, with timeouts for peers that stop half-way.

Bodies are limited where they are read (`intake/body_stream.py`). Here are the timeouts of request heads and of unread
answers, and the limit on what a peer still sends after its answer. h11 needs no compiled code, and its state shows how
much of a request has arrived.
"""

import asyncio
import fcntl
import json
import logging
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from luthier.api.http.connection_limits import ConnectionGate

logger = logging.getLogger(__name__)

MAX_DISCARDED_BYTES = 64 * 1024
"""Up to so much of an unwanted body is discarded and the connection kept; with more it is closed."""
MAX_LINGER_BYTES = 16 * 1024 * 1024
"""A peer that is answered in the middle of its body may send so much more before it reads the answer."""
STOPPING_LINGER_S = 0.5
_FINAL_RESPONSE_S = 0.5


class CloseReason(StrEnum):
    """Why the server itself answers a connection and closes it."""

    HEAD_TOO_SLOW = "request_too_slow"
    TOO_MANY = "too_many_connections"
    STOPPING = "service_stopping"


_ANSWERS = {
    CloseReason.HEAD_TOO_SLOW: (408, "Request Timeout", "The request's headers did not arrive in time. Send it again."),
    CloseReason.TOO_MANY: (
        503,
        "Service Unavailable",
        "Too many connections are open here. Try again in a few seconds.",
    ),
    CloseReason.STOPPING: (503, "Service Unavailable", "The service is stopping. Send the request again once it runs."),
}


def final_response(reason: CloseReason) -> bytes:
    """A complete HTTP response as bytes, with an error body that the clients of every dialect can parse."""
    status, phrase, _ = _ANSWERS[reason]
    body = _error_body(reason)
    head = (
        f"HTTP/1.1 {status} {phrase}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        "retry-after: 5\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body


def _error_body(reason: CloseReason) -> bytes:
    """The JSON of the error, in OpenAI's envelope: no path may be known yet."""
    text = _ANSWERS[reason][2]
    return json.dumps({"error": {"code": reason, "message": text, "type": "server_error", "param": None}}).encode()


class Connection(H11Protocol):
    """One connection of a peer. `_ends_at` is set once we have ended our side: when it is cut, by the loop's clock."""

    def __init__(
        self,
        gate: ConnectionGate,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.gate = gate
        self.raw: asyncio.Transport | None = None
        self.wire: asyncio.Transport | None = None
        """The socket's own transport below `raw`, if that one is TLS."""
        self._inner = self.app
        self.app = self._answer
        self._head_since: float | None = None
        self._head_bytes = 0
        self._ends_at: float | None = None
        self._discarded = 0
        self._sent = 0
        self._acknowledged = (0, 0.0)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Enters the gate; a connection that it rejects gets a 503 at once."""
        self.raw = transport
        super().connection_made(_Transport(self, transport))
        self._head_since = now = self.loop.time()
        self._acknowledged = (0, now)
        if not self.gate.enter(self, self.client[0] if self.client else ""):
            self._respond_and_linger(CloseReason.TOO_MANY)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leaves the gate, however the connection ended; a request in progress is told of the disconnect."""
        self.gate.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Passes bytes to h11, and notes since when a head is incomplete; drops them once our side has ended."""
        if self._ends_at is not None:
            self._discarded += len(data)
            if self._discarded > MAX_LINGER_BYTES:
                self.abort()
            return
        super().data_received(data)
        if not self.is_waiting:
            self._head_since, self._head_bytes = None, 0
        elif self._head_since is None:
            self._head_since, self._head_bytes = self.loop.time(), len(data)
        else:
            self._head_bytes += len(data)

    @property
    def is_waiting(self) -> bool:
        """Whether no request is being answered: the connection is idle, or in the middle of a head."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def is_closed_by_us(self) -> bool:
        """Whether it has had its final response."""
        return self._ends_at is not None

    def shutdown(self) -> None:
        """The service stops: waits for an answer in progress, and cuts a body that is still arriving off with a 503."""
        if self._ends_at is not None:
            self.abort()
        elif not self.is_waiting and self.cycle.more_body and not self.cycle.response_started:
            self._respond_and_linger(CloseReason.STOPPING)
            self._ends_at = self.loop.time() + STOPPING_LINGER_S
        else:
            super().shutdown()

    def close_if_overdue(self, now: float) -> None:
        """Closes the connection if a timeout has passed at `now`, a slow head with a 408. The gate's sweep calls it."""
        limits = self.gate.limits
        if self.raw is None:
            return
        if self._ends_at is not None and now > self._ends_at and not self._waiting_bytes():
            self.abort()
        elif self._is_write_stalled(now):
            logger.info("connection cut: its answer was not read for %g s", limits.write_s)
            self.abort()
        elif self._ends_at is None and self._head_since is not None and now - self._head_since > limits.head_s:
            if self._head_bytes:
                self._respond_and_linger(CloseReason.HEAD_TOO_SLOW)
            else:
                self.abort()

    def abort(self) -> None:
        """Closes the connection at once; bytes that are not sent yet are lost."""
        if self.raw is not None:
            self.raw.abort()

    def count_sent(self, length: int) -> None:
        """Counts bytes handed to the transport."""
        self._sent += length

    def close_gracefully(self) -> None:
        """Closes it so that a peer in the middle of its body still reads the answer, which might be lost otherwise."""
        assert self.raw is not None
        if self._ends_at is not None or self.raw.is_closing():
            return
        state = self.conn.their_state
        if state is h11.SEND_BODY or state is h11.ERROR:
            self._linger()
        else:
            self.raw.close()
            if self.wire is not None and not self.raw.get_write_buffer_size():
                self.wire.close()  # TLS's close_notify is sent: nobody waits for the peer's

    def _linger(self) -> None:
        """Ends our side, and discards what the peer still sends until `linger_s` seconds have passed."""
        assert self.raw is not None
        self._ends_at = self.loop.time() + self.gate.limits.linger_s
        self.raw.resume_reading()
        if self.raw.can_write_eof():
            self.raw.write_eof()

    def _respond_and_linger(self, reason: CloseReason) -> None:
        """Sends the final response past h11, then lingers; does nothing if the connection is closing."""
        assert self.raw is not None
        if self.raw.is_closing():
            return
        answer = final_response(reason)
        self.count_sent(len(answer))
        self.raw.write(answer)
        self._linger()

    def _is_write_stalled(self, now: float) -> bool:
        """Whether the peer has read none of the waiting bytes for `write_s` seconds; notes how far it has read."""
        assert self.raw is not None
        waiting = self._waiting_bytes()
        acknowledged, since = self._acknowledged
        reached = self._sent - waiting - _unacknowledged(self.raw) if waiting else self._sent
        if not waiting or reached > acknowledged:
            self._acknowledged = (reached, now)
            return False
        return now - since > self.gate.limits.write_s

    def _waiting_bytes(self) -> int:
        """Bytes that the system has not taken yet, with those that asyncio's TLS buffers separately."""
        assert self.raw is not None
        return self.raw.get_write_buffer_size() + (self.wire.get_write_buffer_size() if self.wire else 0)

    async def _answer(self, scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        """Calls the application; an answer in the middle of a long body gets `connection: close`."""

        content_type = b""

        async def send_and_mark(message: Any) -> None:
            """Sends a part of the answer; the head as `_answer` says, and its content type is kept for a cut."""
            nonlocal content_type
            if message["type"] == "http.response.start":
                content_type = dict(message.get("headers", ())).get(b"content-type", b"")
                if self._has_long_remainder():
                    message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        try:
            await self._inner(scope, receive, send_and_mark)
        except asyncio.CancelledError:  # by uvicorn, when a stop has waited long enough for answers
            with suppress(TimeoutError):
                async with asyncio.timeout(_FINAL_RESPONSE_S):
                    await self._abort_response(send, content_type)

    async def _abort_response(self, send: Callable[[Any], Any], content_type: bytes) -> None:
        """Ends an answer that a stop cuts off: with an error if it has not begun or is an event stream, else cut."""
        body = _error_body(CloseReason.STOPPING)
        if not self.cycle.response_started:
            headers = [(b"content-type", b"application/json"), (b"retry-after", b"5"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": _ANSWERS[CloseReason.STOPPING][0], "headers": headers})
        elif content_type.startswith(b"text/event-stream"):
            body = b"data: " + body + b"\n\n"
        else:
            self.abort()
            return
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def _has_long_remainder(self) -> bool:
        """Whether more of the body is to come than is worth reading to keep the connection."""
        if not self.cycle.more_body:
            return False
        declared = dict(self.headers).get(b"content-length", b"")
        return not declared.isdigit() or int(declared) > MAX_DISCARDED_BYTES


class _Transport(asyncio.Transport):
    """The transport as uvicorn sees it: `close` is graceful, writes are counted, and dropped once our side ends."""

    def __init__(self, connection: Connection, raw: asyncio.Transport) -> None:
        super().__init__()
        self._connection = connection
        self._raw = raw

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._connection.is_closed_by_us:
            self._connection.count_sent(len(data))
            self._raw.write(data)

    def close(self) -> None:
        self._connection.close_gracefully()

    def is_closing(self) -> bool:
        return self._connection.is_closed_by_us or self._raw.is_closing()

    def abort(self) -> None:
        self._raw.abort()

    def pause_reading(self) -> None:
        if not self._connection.is_closed_by_us:
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._raw.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._raw.get_extra_info(name, default)


def _unacknowledged(transport: asyncio.Transport) -> int:
    """Bytes in the socket's send buffer that the peer has not acknowledged; 0 if the system does not tell."""
    connection_socket = transport.get_extra_info("socket")
    try:
        return int(struct.unpack("i", fcntl.ioctl(connection_socket.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])
    except (OSError, ValueError, AttributeError):
        return 0
