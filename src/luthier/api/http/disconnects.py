"""Callers who leave, or stop reading: what is under way for them ends at once."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

WRITE_S = 30.0
"""A caller who takes none of a stream's bytes for so long has stopped reading: the buffers on the way are full."""
CLIENT_CLOSED_REQUEST = 499
"""What the log says of an answer that nobody waited for (nginx's word for it)."""


Result = TypeVar("Result")


class CallerLeft(Exception):
    """The caller has closed the connection."""


async def unless_left(receive: Receive, work: Coroutine[object, object, Result]) -> Result:
    """The work's result, or what it raises. Raises CallerLeft, with the work cancelled, if the caller goes before that.

    The request's body must have been read: after it, `receive` has nothing more to tell than the disconnect.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise CallerLeft
        return working.result()
    finally:
        await _end(leaving, working)


class EventStream(Response):
    """An answer of server-sent events for as long as somebody reads them; then `events` is closed.

    Each event is text as it is sent. A caller who takes nothing for `write_s` seconds has stopped reading.
    """

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncGenerator[str], headers: Mapping[str, str] | None = None, write_s: float = WRITE_S
    ) -> None:
        """Without a content-length, as nobody knows the length; nothing is read of `events` before `__call__`."""
        super().__init__(None, 200, headers)
        del self.headers["content-length"]
        self._events = events
        self._write_s = write_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the events until they end or the caller disconnects. Raises what their source raises."""
        writing = asyncio.ensure_future(self._write(send))
        leaving = asyncio.ensure_future(_left(receive))
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
        finally:
            await _end(leaving, writing)

    async def _write(self, send: Send) -> None:
        """Sends head, events and end; a send that takes longer than `write_s` ends the answer unfinished.

        Closes the source.
        """
        async with aclosing(self._events) as events:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                async for event in events:
                    async with asyncio.timeout(self._write_s):
                        await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
            except TimeoutError:
                return  # without an end: the server closes the connection
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    """Returns when the caller has disconnected; discards whatever else `receive` gives."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(*tasks: "asyncio.Future[Any]") -> None:
    """Cancels the tasks and waits until each has ended; what they raise is dropped."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
