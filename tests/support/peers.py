"""Clients that behave badly: over bare sockets, which send what no HTTP library would, and stop where they like."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import httpx2
import uvicorn
from starlette.types import ASGIApp

from luthier.api.http import listening
from luthier.api.http.connection_limits import ConnectionGate, Limits
from luthier.api.http.tls import Certificate

_UNVERIFIED = ssl.create_default_context()
_UNVERIFIED.check_hostname = False
_UNVERIFIED.verify_mode = ssl.CERT_NONE


def connect(url: str) -> socket.socket:
    address = httpx2.URL(url)
    connection = socket.create_connection((address.host, address.port), timeout=20)
    return _UNVERIFIED.wrap_socket(connection) if address.scheme == "https" else connection


def head(method: str, path: str, key: str | None = None, **headers: object) -> bytes:
    """The head of a request; `content_length=3` is the header of that name."""
    lines = [f"{method} {path} HTTP/1.1", "host: luthier"] + ([f"api-key: {key}"] if key else [])
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def answer(connection: socket.socket, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the next answer."""
    response = HTTPResponse(connection, method=method)
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return response.status, headers, response.read()


@contextmanager
def asking(url: str, sent: bytes) -> Iterator[socket.socket]:
    with connect(url) as connection:
        connection.sendall(sent)
        yield connection


def is_closed(connection: socket.socket) -> bool:
    """Whether the server ends the connection without a further byte; waits for it."""
    try:
        return connection.recv(1) == b""
    except (ConnectionResetError, ssl.SSLEOFError):
        return True


@contextmanager
def served(
    app: ASGIApp, limits: Limits, grace_s: float = 5, certificate: Certificate | None = None, **more: Any
) -> Iterator[str]:
    """A server of the test's own, with limits of its own; it stops at the end, `grace_s` after that at the latest."""
    gate = ConnectionGate(limits)
    stop = {"timeout_graceful_shutdown": grace_s}
    config = listening.config(app, gate, certificate, port=0, lifespan="off", **stop, **more)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    yield f"http{'s' if certificate else ''}://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def stored(data_folder: Path) -> list[Path]:
    return [path for path in (data_folder / "blobs").rglob("*") if path.is_file()]
