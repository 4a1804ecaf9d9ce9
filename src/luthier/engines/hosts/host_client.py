"""Calls engine hosts over HTTP: one POST for a call, its answer a stream of JSON lines.

A line is a value, an error, the end, or nothing: the heartbeat of a host that computes or loads. A host that sends no
line for `STALLED_S` is gone.
"""

import json
import logging
import ssl
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any

import httpx2

from luthier.core.errors import RateLimited
from luthier.core.inference import host_values
from luthier.core.inference.engine_hosts import PATH, HostGone, Operation

CONNECT_S = 3.0
STALLED_S = 30.0
KEPT_ALIVE_S = 2.0
"""Idle connections are closed after so long: before the host does it (`LUTHIER_IDLE_TIMEOUT_S`)."""
_WRITE_S = 60.0
_RETRY_S = 1.0

Json = Mapping[str, Any]

logger = logging.getLogger(__name__)


class HttpHostClient:
    """Implements core.inference.engine_hosts.HostClient. Proxies are not used; of https the certificate is
    checked, by the authorities of the system or of SSL_CERT_FILE."""

    def __init__(self, key: str, stalled_s: float = STALLED_S) -> None:
        """`key` is what hosts and their callers share; it goes into the header of each call."""
        self._options: dict[str, Any] = {
            "headers": {"Authorization": f"Bearer {key}"},
            "timeout": httpx2.Timeout(_WRITE_S, connect=CONNECT_S, read=stalled_s),
            "limits": httpx2.Limits(max_connections=None, keepalive_expiry=KEPT_ALIVE_S),
            "trust_env": False,  # no proxy
            "verify": ssl.create_default_context(),  # OpenSSL reads SSL_CERT_FILE and SSL_CERT_DIR itself
        }
        self._http = httpx2.AsyncClient(**self._options)
        self._blocking = httpx2.Client(**self._options)

    async def stream(self, url: str, operation: Operation, body: Mapping[str, object]) -> AsyncGenerator[object]:
        """As the port says."""
        with _gone(url):
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
            _gone(url),
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
def _gone(url: str) -> Iterator[None]:
    """Words a connection that fails, breaks off or stays silent, and an answer that is none."""
    try:
        yield
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
        logger.warning("engine host not asked url=%s reason=%s", url, _reason(error))
        raise HostGone from error


def _reason(error: Exception) -> str:
    """The kind of an error, and what is wrong with a certificate."""
    causes = [error, error.__cause__, error.__context__]
    failed = next((cause for cause in causes if "CERTIFICATE_VERIFY_FAILED" in str(cause)), None)
    return type(error).__name__ if failed is None else f"its certificate is not trusted ({failed})"


def _check(status: int) -> None:
    """Raises HostGone unless the host takes the call, and RateLimited for too many connections there."""
    match status:
        case 200:
            return
        case 401:
            text = "The engine host refused this process's key: give all of them the same LUTHIER_ENGINE_HOST_KEY."
            raise HostGone("engine_host_key", text)
        case 404:
            text = "The engine host speaks another protocol: run one version of Luthier in all processes."
            raise HostGone("engine_host_version", text)
        case 503:
            text = "The engine host has too many connections (LUTHIER_CONNECTIONS there). Ask again."
            raise RateLimited("engine_host_busy", text, _RETRY_S)
        case _:
            raise HostGone


def _is_end(received: Json) -> bool:
    """Whether a line that is no value is the last one. Raises the error that it has."""
    if "error" in received:
        raise host_values.read_error(received["error"])
    return "end" in received
