"""Calls engine hosts over HTTP: one POST for a call, its answer a stream of JSON lines.

A line is a value, an error, the end, or nothing: the heartbeat of a host that computes or loads. A host that sends no
line for `STALLED_S` is gone.
"""

import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any

import httpx2

from luthier.core.errors import Unavailable
from luthier.core.inference import host_values
from luthier.core.inference.engine_hosts import PATH, HostGone, Operation

CONNECT_S = 3.0
STALLED_S = 30.0
KEPT_ALIVE_S = 2.0
"""Idle connections are closed after so long: before the host does it (`LUTHIER_IDLE_TIMEOUT_S`)."""
_WRITE_S = 60.0
_RETRY_S = 5.0

Json = Mapping[str, Any]


class HttpHostClient:
    """Implements core.inference.engine_hosts.HostClient. Proxies are not used; https is checked as usual."""

    def __init__(self, key: str, stalled_s: float = STALLED_S) -> None:
        """`key` is what hosts and their callers share; it goes into the header of each call."""
        self._options: dict[str, Any] = {
            "headers": {"Authorization": f"Bearer {key}"},
            "timeout": httpx2.Timeout(_WRITE_S, connect=CONNECT_S, read=stalled_s),
            "limits": httpx2.Limits(max_connections=None, keepalive_expiry=KEPT_ALIVE_S),
            "trust_env": False,
        }
        self._http = httpx2.AsyncClient(**self._options)
        self._blocking = httpx2.Client(**self._options)

    async def stream(self, url: str, operation: Operation, body: Mapping[str, object]) -> AsyncGenerator[object]:
        """As the port says."""
        with _gone():
            async with self._http.stream("POST", f"{url}{PATH}{operation}", json=body) as response:
                _check(response.status_code)
                async for line in response.aiter_lines():
                    received = json.loads(line)
                    if "value" in received:
                        yield received["value"]
                    elif _is_end(received):
                        return
        raise HostGone  # it ended without a last line

    async def ask(self, url: str, operation: Operation, body: Mapping[str, object]) -> object:
        """As the port says."""
        async with aclosing(self.stream(url, operation, body)) as values:
            async for value in values:
                return value
        return None

    def ask_now(
        self, url: str, operation: Operation, body: Mapping[str, object], timeout_s: float | None = None
    ) -> object:
        """As the port says."""
        more: Any = {} if timeout_s is None else {"timeout": timeout_s}
        with (
            _gone(),
            self._blocking.stream("POST", f"{url}{PATH}{operation}", json=body, **more) as response,
        ):
            _check(response.status_code)
            for line in response.iter_lines():
                received = json.loads(line)
                if "value" in received:
                    return received["value"]
                if _is_end(received):
                    return None
        raise HostGone

    async def close(self) -> None:
        """As the port says, for the calls of the event loop; `close_now` ends those of threads."""
        await self._http.aclose()

    def close_now(self) -> None:
        """Closes the connections of `ask_now`."""
        self._blocking.close()


@contextmanager
def _gone() -> Iterator[None]:
    """Words a connection that fails, breaks off or stays silent, and an answer that is none."""
    try:
        yield
    except (httpx2.HTTPError, OSError, ValueError) as error:
        raise HostGone from error


def _check(status: int) -> None:
    """Raises Unavailable unless the host takes the call: it has another key, or speaks another protocol."""
    match status:
        case 200:
            return
        case 401:
            text = "The engine host refused this process's key: give all of them the same LUTHIER_ENGINE_HOST_KEY."
            raise Unavailable("engine_host_key", text, retry_after_s=_RETRY_S)
        case 404:
            text = "The engine host speaks another protocol: run one version of Luthier in all processes."
            raise Unavailable("engine_host_version", text, retry_after_s=_RETRY_S)
        case _:
            raise HostGone


def _is_end(received: Json) -> bool:
    """Whether a line that is no value is the last one. Raises the error that it has."""
    if "error" in received:
        raise host_values.read_error(received["error"])
    return "end" in received
