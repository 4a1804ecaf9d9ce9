"""A job's events as server-sent events: the existing ones, then each new one, until the job has ended."""

import asyncio
from collections.abc import AsyncIterator

from luthier.api.auth.authentication import Credentials
from luthier.api.dialects.dialects import Dialect
from luthier.api.routing.json_response import event_line
from luthier.api.streaming.event_feed import PAGE, EventFeed
from luthier.core.errors import NotFound
from luthier.service.context import Context

QUIET_S = 15.0
"""After so long without an event a comment is sent, so that no proxy closes the connection as idle."""


async def lines(
    context: Context, feed: EventFeed, dialect: Dialect, credentials: Credentials, job_id: str, after: str | None
) -> AsyncIterator[str]:
    """Data-only lines, oldest first, from the one after `after` (None: all); then `data: [DONE]`.

    It holds no thread between two reads, and sends a comment after QUIET_S quiet seconds. It ends with the job, also
    with one that is deleted. When the client disconnects, the server cancels it. When the key is revoked or the service
    stops, the last line is the dialect's error (wire-contract.md section 8).
    """
    with feed.watching(context, credentials, job_id) as watcher:
        while watcher.error is None:
            watcher.woken.clear()
            try:
                events, ended = await feed.read(context, watcher, after)
            except NotFound:  # deleted meanwhile
                break
            for event in events:
                if watcher.error is None:
                    after = event.id
                    yield event_line(dialect.event.from_event(event))
            if ended:
                break
            if len(events) < PAGE:
                try:
                    await asyncio.wait_for(watcher.woken.wait(), QUIET_S)
                except TimeoutError:
                    yield ": the job continues\n\n"
        if watcher.error is not None:
            yield event_line(dialect.error.from_error(watcher.error))
            return
    yield "data: [DONE]\n\n"
