"""The server's sockets and file descriptors: as many as the system allows, and an answer when none is left.

`cli/http_server.py` starts uvicorn with it.
"""

import asyncio
import errno
import logging
import os
import resource
import socket
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp

from luthier.api.http.connection_limits import ConnectionGate, Limits
from luthier.api.http.connections import CloseReason, Connection, final_response
from luthier.api.http.log_limit import LogLimit
from luthier.api.http.tls import Certificate, Handshake

logger = logging.getLogger(__name__)

HEADER_BUFFER_BYTES = 64 * 1024
"""Beyond it the HTTP parser ends the connection by itself; below it, too many headers get an error message."""
ACCEPTED_AT_ONCE = 128
"""asyncio accepts so many before it reads from the first; one that was not read from yet may be aborted for room."""
BACKLOG = 2048
FREED_CONNECTIONS = 16
REJECTED_CONNECTIONS = 64
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_LIMITED_LOGGERS = (
    "uvicorn.error",
    "asyncio",
    "luthier.api.http.tls",
    __name__,
    "luthier.api.server.refusals",
    "luthier.engine_host.host_app",
    "luthier.engines.hosts.host_client",
)
"""Loggers to which every action of a peer can write a line."""


def raise_descriptor_limit() -> int:
    """Raises this process's soft limit of file descriptors to the hard one; returns that, 2**20 if it is unlimited."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return 2**20 if hard == resource.RLIM_INFINITY else hard


def config(app: ASGIApp, gate: ConnectionGate, certificate: Certificate | None = None, **more: Any) -> uvicorn.Config:
    """uvicorn's configuration for the application: our connections behind `gate`, TLS ones if there is a certificate.

    `more` are further arguments of uvicorn.Config.
    """
    protocol = partial(Handshake, gate, certificate) if certificate else partial(Connection, gate)
    return uvicorn.Config(
        app,
        http=cast(Any, protocol),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=ACCEPTED_AT_ONCE,
        h11_max_incomplete_event_size=HEADER_BUFFER_BYTES,
        timeout_keep_alive=cast(int, gate.limits.idle_s),
        **more,
    )


def fitting(limits: Limits, descriptors: int) -> Limits:
    """The limits, lowered if there are too few descriptors: half of them are kept for files and engines."""
    connections = min(limits.connections, descriptors // 2)
    return Limits(
        connections,
        min(limits.per_address, connections * 3 // 4),
        limits.head_s,
        limits.idle_s,
        limits.write_s,
        limits.linger_s,
    )


def limit_logs() -> None:
    """Installs a LogLimit on each logger to which peers can cause lines."""
    for name in _LIMITED_LOGGERS:
        logging.getLogger(name).addFilter(LogLimit())


class DescriptorReserve:
    """A spare descriptor, so that whoever connects when none is left gets an answer instead of waiting.

    Holds one open file and a duplicate of each listening socket until `close`, and sets those sockets' backlog. asyncio
    itself tries again a second later, and calls its exception handler for each attempt.
    """

    def __init__(self, gate: ConnectionGate, listeners: Iterable[socket.socket], is_tls: bool = False) -> None:
        """Duplicates and listens anew on `listeners`; over TLS (`is_tls`) the rejected get no answer, only a close."""
        self._gate = gate
        self._answer = b"" if is_tls else final_response(CloseReason.TOO_MANY)
        self._listeners = [socket.socket(fileno=os.dup(one.fileno())) for one in listeners]
        for one in self._listeners:
            one.listen(BACKLOG)  # the system's queue, which asyncio sets to the number that it accepts at once
        self._spare = os.open(os.devnull, os.O_RDONLY)

    def install(self, loop: asyncio.AbstractEventLoop) -> None:
        """Becomes the event loop's exception handler: asyncio reports there that it could not accept."""
        loop.set_exception_handler(self._handle)

    def close(self) -> None:
        """Closes the duplicates and the spare; the server's own sockets stay open."""
        for one in self._listeners:
            one.close()
        os.close(self._spare)

    def _handle(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The loop's exception handler.

        When descriptors or memory ran out it aborts waiting connections, and rejects those that queue with the help of
        the spare; every other exception goes to the default handler.
        """
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in _EXHAUSTED:
            loop.default_exception_handler(context)
            return
        logger.warning("no file descriptors left: waiting connections are rejected")
        self._gate.make_room(FREED_CONNECTIONS)
        if self._spare >= 0:
            os.close(self._spare)
            try:
                for listener in self._listeners:
                    _reject_waiting(listener, self._answer)
            finally:
                self._spare = _open_spare()


def _reject_waiting(listener: socket.socket, answer: bytes) -> None:
    """Accepts up to REJECTED_CONNECTIONS from the listener's queue, sends `answer` without waiting, and closes each."""
    for _ in range(REJECTED_CONNECTIONS):
        try:
            peer, _ = listener.accept()
        except OSError:
            return
        with peer, suppress(OSError):
            peer.setblocking(False)
            peer.send(answer)
            peer.shutdown(socket.SHUT_WR)


def _open_spare() -> int:
    """A descriptor of /dev/null; -1 if none is left."""
    try:
        return os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return -1
