"""Connections that go to judged addresses and to no name, and each of whose waits ends with a deadline.

A network backend for httpcore: the fetcher's only way out.
"""

import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import httpcore2


class PinnedBackend(httpcore2.NetworkBackend):
    """Connects to the addresses that were judged and to no name, and holds every wait to the deadline."""

    def __init__(self, addresses: Callable[[str, int, float], list[str]], deadline: float, idle_seconds: float) -> None:
        """`addresses` judges a host and gives its addresses, in at most as many seconds as its last argument says;
        `deadline` is in seconds of time.monotonic().
        """
        self._addresses = addresses
        self._clock = _Deadline(deadline, idle_seconds)
        self._plain = httpcore2.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        """Connects to the first of the host's addresses that answers; httpcore's `timeout` and options are ignored.

        Raises what `addresses` raises, the last address's ConnectError or ConnectTimeout, and ReadTimeout at the
        deadline.
        """
        failed: Exception | None = None
        for address in self._addresses(host, port, self._clock.left()):
            try:
                stream = self._plain.connect_tcp(address, port, self._clock.left())
                return _TimedStream(stream, self._clock)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failed = error
        assert failed is not None
        raise failed


@dataclass(frozen=True, slots=True)
class _Deadline:
    """When a fetch must be over (`at`, in seconds of time.monotonic()), and how long one wait may take."""

    at: float
    idle_seconds: float

    def left(self) -> float:
        """Seconds that the next wait may take. Raises httpcore2.ReadTimeout once the deadline has passed."""
        left = self.at - time.monotonic()
        if left <= 0:
            raise httpcore2.ReadTimeout
        return min(left, self.idle_seconds)


class _TimedStream(httpcore2.NetworkStream):
    """A connection each of whose waits ends with the deadline; httpcore's own timeouts are ignored."""

    def __init__(self, stream: httpcore2.NetworkStream, clock: _Deadline) -> None:
        self._stream = stream
        self._clock = clock

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """At most `max_bytes`; raises ReadTimeout at the deadline."""
        return self._stream.read(max_bytes, self._clock.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Sends all of `buffer`; raises WriteTimeout, or ReadTimeout once the deadline has passed."""
        self._stream.write(buffer, self._clock.left())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        """The same connection under TLS, with the same deadline; raises ConnectTimeout as well."""
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, self._clock.left()), self._clock)
