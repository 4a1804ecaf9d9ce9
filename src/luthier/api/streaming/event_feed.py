"""Open event streams of jobs, and when each reads again: one poll of the database for all of them.

`event_stream.lines` is the one stream; the service ends all of them by `EventFeed.close`.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from luthier.api.auth import authentication
from luthier.api.auth.authentication import Credentials
from luthier.api.http import thread_pools
from luthier.api.http.thread_pools import Workers
from luthier.core.errors import LuthierError, Unavailable
from luthier.core.models import Event
from luthier.service.context import Context
from luthier.service.jobs import jobs

logger = logging.getLogger(__name__)

POLL_S = 0.5
PAGE = 100

_Page = tuple[list[Event], bool]


@dataclass(eq=False, slots=True)
class Watcher:
    """One open stream: its caller and its job. Compared by identity; belongs to one event loop."""

    credentials: Credentials
    job_id: str
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    """Set if there may be new events, or an error."""
    error: LuthierError | None = None
    """Why the stream must end at once."""


@dataclass(eq=False, slots=True)
class EventFeed:
    """Polls every `poll_s` for commits; wakes the streams of jobs that have new events.

    Each poll authorizes each caller again, so that a revoked key ends its streams. Without a commit a poll takes
    microseconds, however many streams are open. Belongs to one event loop.
    """

    poll_s: float = POLL_S
    _watchers: set[Watcher] = field(default_factory=set)
    _polling: asyncio.Task[None] | None = None
    _reads: dict[tuple[str, str, str | None], asyncio.Task[_Page]] = field(default_factory=dict)
    _closed: bool = False

    @contextmanager
    def watching(self, context: Context, credentials: Credentials, job_id: str) -> Iterator[Watcher]:
        """Registers a stream for as long as the block runs, with an error at once if the service stops.

        Starts the poll if need be.
        """
        watcher = Watcher(credentials, job_id)
        if self._closed:
            watcher.error = _closing()
        self._watchers.add(watcher)
        if self._polling is None or self._polling.done():
            self._polling = asyncio.get_running_loop().create_task(self._poll(context))
        try:
            yield watcher
        finally:
            self._watchers.discard(watcher)

    async def read(self, context: Context, watcher: Watcher, after: str | None) -> _Page:
        """Up to PAGE events after the event `after` (None: from the first), and whether the job has ended with them.

        As `jobs.follow_events`, in a thread; equal reads at the same time share one query. Raises NotFound for a
        deleted job.
        """
        resource_id = watcher.credentials.caller.resource.id
        key = resource_id, watcher.job_id, after
        task = self._reads.get(key)
        if task is None:
            call = partial(jobs.follow_events, context, resource_id, watcher.job_id, after, PAGE)
            task = asyncio.get_running_loop().create_task(thread_pools.run(Workers.STREAMS, call))
            self._reads[key] = task
            task.add_done_callback(partial(self._forget, key))
        # Shielded: one stream whose client disconnects must not cancel the others' read.
        return await asyncio.shield(task)

    def _forget(self, key: tuple[str, str, str | None], task: asyncio.Task[_Page]) -> None:
        """Called when a shared read has ended: the next one asks the database again."""
        del self._reads[key]
        if not task.cancelled():
            task.exception()  # retrieved, if no stream waits for it any more

    def close(self) -> None:
        """Ends every stream, and those that open later, with an error because the service stops.

        Called on the event loop.
        """
        self._closed = True
        for watcher in self._watchers:
            watcher.error = watcher.error or _closing()
            watcher.woken.set()

    async def _poll(self, context: Context) -> None:
        """The task behind all streams: looks every `poll_s` seconds until none is left. Errors are logged only."""
        version, newest = -1, None
        while True:
            await asyncio.sleep(self.poll_s)
            if not self._watchers:
                return
            try:
                version, newest = await self._look(context, version, newest)
            except LuthierError as error:
                logger.warning("events not polled code=%s", error.code)

    async def _look(self, context: Context, version: int, newest: int | None) -> tuple[int, int | None]:
        """Wakes the streams that have news, or whose caller has lost its right.

        Returns what the next poll compares with: the database's version and the newest event's number. `newest` is None
        at the first poll.
        """
        now = context.database.version()
        credentials = {watcher.credentials for watcher in self._watchers}
        if now == version:  # then keys are unchanged, and only a token can have expired
            credentials = {one for one in credentials if one.expires}
            if not credentials:
                return version, newest
        call = partial(_changes, context, frozenset(credentials), newest)
        refusals, latest, changed = await thread_pools.run(Workers.STREAMS, call)
        for watcher in self._watchers:
            watcher.error = watcher.error or refusals.get(watcher.credentials)
            # Which events the streams had read before the first poll is unknown: all of them read once more.
            if watcher.error is not None or newest is None or watcher.job_id in changed:
                watcher.woken.set()
        return now, latest


def _changes(
    context: Context, credentials: frozenset[Credentials], newest: int | None
) -> tuple[dict[Credentials, LuthierError], int, set[str]]:
    """The callers who may not read any more, the newest event's number, and the jobs with events after `newest`.

    Runs in a worker thread: it reads the database, and a token's issuer may be asked.
    """
    checked = ((one, authentication.refusal(context, one)) for one in credentials)
    refusals = {one: error for one, error in checked if error is not None}
    latest, changed = jobs.changed_since(context, newest)
    return refusals, latest, changed


def _closing() -> Unavailable:
    """The error of a stream that ends because the service stops: the client may continue after the last event."""
    return Unavailable(
        "service_stopping", "The service is stopping. Stream again with after=ID of the last event once it runs."
    )
