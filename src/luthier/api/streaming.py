"""A request's body for a worker thread, one chunk at a time: what is not read yet stays with the client."""

from collections.abc import AsyncIterator, Iterator

from anyio import from_thread
from starlette.requests import ClientDisconnect, Request

from luthier.core.errors import InvalidRequest


def pulled(request: Request) -> Iterator[bytes]:
    """The body's chunks. Raises InvalidRequest where the client went away."""
    stream = request.stream()
    while (chunk := from_thread.run(_next, stream)) is not None:
        yield chunk


async def _next(stream: AsyncIterator[bytes]) -> bytes | None:
    try:
        return await anext(stream, None)
    except ClientDisconnect as error:
        raise InvalidRequest("upload_broke_off", "The client went away in the middle of the upload.", "file") from error
