"""A request's body as it arrives, on the event loop: no thread waits for a peer, and every wait has a timeout."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from luthier.api.intake.body_limits import BodyLimits
from luthier.core.errors import InvalidRequest, TooLarge, TooSlow

BATCH_BYTES = 1024 * 1024
"""A hop between the event loop and a worker thread costs as much as some 100 KiB: so many bytes go at once."""


class BodyReader:
    """The bytes of one body as they arrive, up to `cap_bytes` and not slower than the limits.

    Only the time spent waiting for the peer counts, not the time that the reader takes. `declared_bytes` is None if the
    request has no length.
    """

    def __init__(self, request: Request, cap_bytes: int, limits: BodyLimits) -> None:
        """Reads the headers only. Raises TooLarge for a declared length above `cap_bytes`."""
        self._receive = request.receive
        self._cap_bytes = cap_bytes
        self._limits = limits
        self._received = 0
        self._waited_s = 0.0
        self._has_ended = False
        declared = request.headers.get("content-length", "")
        self.declared_bytes = int(declared) if declared.isdigit() else None
        if self.declared_bytes is not None and self.declared_bytes > cap_bytes:
            raise _too_large(cap_bytes)

    async def chunk(self) -> bytes:
        """The next bytes, empty at the end. Raises TooLarge, TooSlow, and InvalidRequest if the peer disconnected."""
        if self._has_ended:
            return b""
        chunk = await self._next()
        self._received += len(chunk)
        if self._received > self._cap_bytes:
            raise _too_large(self._cap_bytes)
        return chunk

    async def _next(self) -> bytes:
        """The next bytes from the server, not yet held against the cap; empty at the end.

        Adds the time of the wait to that of the body. Raises TooSlow and InvalidRequest.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        left_s = self._limits.allowed_s(self._received) - self._waited_s
        try:
            async with asyncio.timeout(min(self._limits.idle_s, left_s)):
                while not self._has_ended:
                    message = await self._receive()
                    if message["type"] == "http.disconnect":
                        raise InvalidRequest(
                            "upload_broke_off", "The client disconnected in the middle of the request's body.", "file"
                        )
                    self._has_ended = not message.get("more_body", False)
                    chunk: bytes = message.get("body", b"")
                    if chunk:
                        return chunk
        except TimeoutError as error:
            raise _too_slow(self._received, self._limits) from error
        finally:
            self._waited_s += loop.time() - started
        return b""


@asynccontextmanager
async def batches(incoming: BodyReader) -> AsyncIterator[AsyncIterator[bytes]]:
    """The body in batches of about BATCH_BYTES; the next one is read while one is used.

    The iterator raises as `BodyReader.chunk`. Leaving the block cancels the read in progress.
    """
    next_batch = asyncio.ensure_future(_batch(incoming))

    async def read_batches() -> AsyncGenerator[bytes, None]:
        """Yields each batch and starts the read of the next one."""
        nonlocal next_batch
        while batch := await next_batch:
            next_batch = asyncio.ensure_future(_batch(incoming))
            yield batch

    try:
        yield read_batches()
    finally:
        next_batch.cancel()
        await asyncio.wait([next_batch])
        if not next_batch.cancelled():
            next_batch.exception()  # retrieved: whoever read the batches has seen it, or stopped reading


async def _batch(incoming: BodyReader) -> bytes:
    """The next BATCH_BYTES or a little more, fewer at the body's end, empty after it. Raises as `BodyReader.chunk`."""
    chunks, length = [], 0
    while length < BATCH_BYTES and (chunk := await incoming.chunk()):
        chunks.append(chunk)
        length += len(chunk)
    return b"".join(chunks)


def _too_large(cap_bytes: int) -> TooLarge:
    """The 413 for a body above its route's limit."""
    limit = f"{cap_bytes // 2**20} MiB" if cap_bytes >= 2**20 else f"{cap_bytes // 1024} KiB"
    return TooLarge("body_too_large", f"The request's body is larger than {limit}, the limit here.")


def _too_slow(received: int, limits: BodyLimits) -> TooSlow:
    """The 408 for a body that stopped or came too slowly after so many bytes."""
    return TooSlow(
        "body_too_slow",
        f"The request's body stopped or arrived too slowly after {received} bytes: it may pause for {limits.idle_s:g} "
        f"seconds, and must arrive at {limits.min_bytes_per_s} bytes a second or faster. Send it again.",
    )
