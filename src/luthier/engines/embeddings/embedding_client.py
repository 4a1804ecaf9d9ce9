"""Calls to embedding models over HTTP: batches of token ids in, vectors out."""

import base64
import binascii
from collections.abc import Sequence

import httpx2

from luthier.core.engine_ports import Address
from luthier.core.errors import Unavailable, UpstreamFailed
from luthier.engines import engine_client

CONNECT_S = 10.0
STALLED_S = 120.0
"""A batch takes a second, and a few of them are ahead of it at most."""


class HttpEmbeddingClient:
    """Implements core.engine_ports.EmbeddingClient. Connections are not kept alive: an engine may close idle ones.

    A call that is cancelled closes its connection, and llama.cpp drops what of it has not begun.
    """

    def __init__(self, stalled_s: float = STALLED_S) -> None:
        """`stalled_s`: a batch without an answer after so many seconds is given up."""
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        self._http = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(verify=False, trust_env=False, limits=limits),
            trust_env=False,
            timeout=httpx2.Timeout(stalled_s, connect=CONNECT_S),
        )

    async def embed(self, address: Address, inputs: Sequence[Sequence[int]]) -> list[bytes]:
        """The vectors of the inputs, in their order, as little-endian float32 of length 1.

        Raises Unavailable for an engine that has ended or is stalled, and UpstreamFailed for an error of its own.
        """
        body = {"input": inputs, "encoding_format": "base64"}
        try:
            response = await self._http.post(f"{address.url}/embeddings", json=body, headers=dict(address.headers))
        except httpx2.TransportError as error:
            raise engine_client.disconnected(error) from error
        return vectors_of(response, len(inputs))

    async def close(self) -> None:
        """Closes the HTTP client; nothing can be called afterwards."""
        await self._http.aclose()


def vectors_of(response: httpx2.Response, count: int) -> list[bytes]:
    """The vectors of a server's answer, ordered by index. Raises Unavailable or UpstreamFailed for another one."""
    if response.status_code in (401, 503):  # another process has the port by now, or this one is not ready
        raise Unavailable(
            "engine_gone", "The engine of this embedding model was replaced. Ask again.", retry_after_s=1.0
        )
    if response.status_code != 200:
        raise UpstreamFailed("engine_failed", f"The engine answered with status {response.status_code}.")
    try:
        entries = sorted(response.json()["data"], key=lambda entry: int(entry["index"]))
        vectors = [base64.b64decode(entry["embedding"], validate=True) for entry in entries]
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise UpstreamFailed("engine_failed", "The engine answered with something else than vectors.") from error
    if len(vectors) != count or len(set(map(len, vectors))) > 1:
        raise UpstreamFailed("engine_failed", f"The engine answered with {len(vectors)} vectors for {count} texts.")
    return vectors
