"""The cheapest honest HTTP client: whole requests over kept connections, each answer timed and read to its end."""

import itertools
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Timing:
    """Seconds of each answer, and of all of them together."""

    each_s: list[float]
    total_s: float

    @property
    def rate(self) -> float:
        return len(self.each_s) / self.total_s

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(self.each_s)
        return 1000 * ordered[min(int(len(ordered) * share), len(ordered) - 1)]


class Connection:
    """One connection that is kept open."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._socket = socket.create_connection((parts.hostname, parts.port or 80))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, head: bytes, body: Iterable[bytes] = ()) -> tuple[int, bytes]:
        """Sends a request and gives the status and the body of its answer, which must name its length."""
        self._socket.sendall(head)
        for chunk in body:
            self._socket.sendall(chunk)
        received = bytearray()
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        headers = bytes(received[:end]).lower()
        start = headers.index(b"content-length:") + 15
        length = int(headers[start : (headers + b"\r\n").index(b"\r\n", start)])
        while len(received) < end + 4 + length:
            received += self._more()
        return int(headers[9:12]), bytes(received[end + 4 :])

    def _more(self) -> bytes:
        chunk = self._socket.recv(1 << 20)
        if not chunk:
            raise SystemExit("the server closed the connection in the middle of an answer")
        return chunk

    def close(self) -> None:
        self._socket.close()


def head(method: str, path: str, key: str, **headers: str) -> bytes:
    """The head of a request as the SDKs send it."""
    lines = [f"{method} {path} HTTP/1.1", "host: bench", f"authorization: Bearer {key}", "accept: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def time_requests(url: str, requests: Sequence[bytes], count: int, connections: int) -> Timing:
    """Asks `count` times over `connections` at once, the requests in turns; every answer must be a 200."""
    each: list[float] = []

    def ask_on() -> None:
        connection = Connection(url)
        for request in itertools.islice(itertools.cycle(requests), count // connections):
            started = time.perf_counter()
            status, _body = connection.ask(request)
            each.append(time.perf_counter() - started)
            assert status == 200, status
        connection.close()

    threads = [threading.Thread(target=ask_on) for _ in range(connections)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Timing(each, time.perf_counter() - started)
