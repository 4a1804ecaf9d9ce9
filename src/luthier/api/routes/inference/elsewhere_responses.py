"""The events of a response that another process generates: its last one, which holds it whole, once it has ended.

Its pieces are in the memory of that process. A caller who comes back by way of another process waits here for the end,
or for this process to take the response over.
"""

import asyncio
import time
from collections.abc import AsyncGenerator

from starlette.concurrency import run_in_threadpool

from luthier.api.dialects.inference.response_answers import ResponseWriter
from luthier.api.routes.inference import response_calls
from luthier.api.routes.inference.background_responses import BackgroundResponses
from luthier.core.errors import NotFound
from luthier.service.context import Context
from luthier.service.responses import response_owners, stored_responses

LOOK_S = 0.5
QUIET_S = 15.0
"""After so long without an event a comment is sent, so that no proxy closes the connection as idle."""


async def follow(
    context: Context, background: BackgroundResponses, resource_id: str, response_id: str, after: int
) -> AsyncGenerator[str]:
    """The event that the response ends with, numbered behind `after`; its events as they come once it is ours.

    Ends without one if the response is deleted.
    """
    version, quiet_since = -1, time.monotonic()
    while True:
        if (events := background.follow(response_id, after)) is not None:
            async for event in events:
                yield event
            return
        if (now := context.database.version()) != version:
            version = now
            if await run_in_threadpool(response_owners.has_ended, context, resource_id, response_id):
                break
        if time.monotonic() - quiet_since > QUIET_S:
            yield ": the response continues\n\n"
            quiet_since = time.monotonic()
        await asyncio.sleep(LOOK_S)
    try:
        response = await run_in_threadpool(stored_responses.get, context, resource_id, response_id)
    except NotFound:
        return
    yield response_calls.event_text(ResponseWriter.ended(response.body, after + 1))
