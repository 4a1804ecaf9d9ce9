"""A request's body for a worker thread, a batch at a time: what is not read yet stays with the client."""

import asyncio
from collections.abc import AsyncIterator, Iterator

from anyio import from_thread
from starlette.requests import ClientDisconnect, Request

from luthier.core.errors import InvalidRequest

BATCH_BYTES = 1024 * 1024
"""Each way between the event loop and the worker takes as long as some 100 KiB do: so many bytes go at once."""


def pulled(request: Request) -> Iterator[bytes]:
    """The body in batches, the next one on its way while one is used. Raises InvalidRequest where the client went."""
    stream = request.stream()
    loop = from_thread.run_sync(asyncio.get_running_loop)
    coming = asyncio.run_coroutine_threadsafe(_batch(stream), loop)
    try:
        while batch := coming.result():
            coming = asyncio.run_coroutine_threadsafe(_batch(stream), loop)
            yield batch
    finally:
        coming.cancel()


async def _batch(stream: AsyncIterator[bytes]) -> bytes:
    """The next bytes, none at the body's end."""
    chunks, length = [], 0
    try:
        while length < BATCH_BYTES and (chunk := await anext(stream, None)) is not None:
            chunks.append(chunk)
            length += len(chunk)
    except ClientDisconnect as error:
        raise InvalidRequest("upload_broke_off", "The client went away in the middle of the upload.", "file") from error
    return b"".join(chunks)
