"""A job's events as server-sent events: from the first one on, and each new one, until the job has ended."""

import asyncio
import json
from collections.abc import AsyncIterator

from starlette.concurrency import run_in_threadpool

from luthier.api.dialects import Dialect
from luthier.core.errors import NotFound
from luthier.service import jobs
from luthier.service.context import Context

POLL_S = 0.5
QUIET_POLLS = 30
"""After this many looks without an event a comment is sent, so that nothing on the way takes the line for dead."""
_PAGE = 100


async def events(
    context: Context, dialect: Dialect, resource_id: str, job_id: str, after: str | None
) -> AsyncIterator[str]:
    """Data-only lines, oldest first, then `data: [DONE]` (contract section 8).

    Between two looks at the store it holds no thread. When the client leaves, the server cancels it.
    """
    quiet = 0
    while True:
        try:
            found, ended = await run_in_threadpool(jobs.follow_events, context, resource_id, job_id, after, _PAGE)
        except NotFound:  # deleted while it was watched
            break
        for event in found:
            after = event.id
            yield f"data: {json.dumps(dialect.event(event), ensure_ascii=False, separators=(',', ':'))}\n\n"
        if ended:
            break
        quiet = 0 if found else quiet + 1
        if quiet == QUIET_POLLS:
            quiet = 0
            yield ": the job goes on\n\n"
        if len(found) < _PAGE:
            await asyncio.sleep(POLL_S)
    yield "data: [DONE]\n\n"
