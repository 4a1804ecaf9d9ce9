"""Requests in progress: their callers are authorized again after each commit, and a lost right ends them.

Uploads, downloads and models' answers use `Rights.watching`; a job's event streams have a poll of their own
(`streaming/event_feed.py`).
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from luthier.api.auth import authentication
from luthier.api.auth.authentication import Credentials
from luthier.api.http import thread_pools
from luthier.api.http.thread_pools import Workers
from luthier.core.errors import LuthierError
from luthier.service.context import Context

logger = logging.getLogger(__name__)

POLL_S = 0.5
T = TypeVar("T")


@dataclass(eq=False, slots=True)
class WatchedRequest:
    """One caller's right to one request in progress, as last checked. Belongs to one event loop."""

    context: Context
    credentials: Credentials
    error: LuthierError | None = None
    """What a new request would get; None while the caller is authorized."""
    authorized_at_version: int = -1
    """The database's version at which the caller was last authorized."""
    _waits: set[asyncio.Timeout] = field(default_factory=set)

    async def check(self) -> None:
        """Authorizes again if anything was committed since the last time, else takes microseconds.

        Raises what a new request would get: Unauthenticated or Forbidden.
        """
        version = self.context.database.version()
        if self.error is None and version != self.authorized_at_version:
            self.store_outcome(version, await _refusal(self.context, self.credentials))
        if self.error is not None:
            raise self.error

    async def unless_lost(self, work: Awaitable[T]) -> T:
        """The result of `work`.

        Raises as `check`, with `work` cancelled or never begun, if the right is lost before that.
        """
        if self.error is not None:  # at once: work that never waits could not be cancelled
            if isinstance(work, Coroutine):
                work.close()
            raise self.error
        wait = asyncio.timeout(None)
        try:
            async with wait:
                self._waits.add(wait)
                return await work
        except TimeoutError:
            if self.error is not None and wait.expired():
                raise self.error from None
            raise
        finally:
            self._waits.discard(wait)

    async def while_authorized(self, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
        """Passes the chunks on while the caller is authorized.

        Raises as `check`: at each chunk, between two, at the end.
        """
        while (chunk := await self.unless_lost(anext(chunks, None))) is not None:
            await self.check()
            yield chunk
        await self.check()

    def store_outcome(self, version: int, error: LuthierError | None) -> None:
        """Stores the outcome of an authorization at a database version; `error` None leaves an earlier error.

        An error makes everything in `unless_lost` time out now. Called on the event loop.
        """
        self.authorized_at_version = version
        self.error = self.error or error
        if self.error is not None:
            now = asyncio.get_running_loop().time()
            for wait in self._waits:
                wait.reschedule(now)


@dataclass(eq=False, slots=True)
class Rights:
    """The requests in progress. Polls every `poll_s` seconds for commits; then authorizes all their callers again.

    Requests of one key are authorized together, callers with a token at each poll: it may have expired. Belongs to one
    event loop.
    """

    poll_s: float = POLL_S
    _watched: set[WatchedRequest] = field(default_factory=set)
    _polling: asyncio.Task[None] | None = None

    @contextmanager
    def watching(self, context: Context, credentials: Credentials) -> Iterator[WatchedRequest]:
        """The caller's right, checked for as long as the block runs.

        Starts the poll if it is the first request watched.
        """
        request = WatchedRequest(context, credentials)
        self._watched.add(request)
        if self._polling is None or self._polling.done():
            self._polling = asyncio.get_running_loop().create_task(self._poll(context))
        try:
            yield request
        finally:
            self._watched.discard(request)

    async def _poll(self, context: Context) -> None:
        """The task behind all watched requests: looks every `poll_s` seconds, ends once none is left.

        Logs errors and goes on.
        """
        while True:
            await asyncio.sleep(self.poll_s)
            if not self._watched:
                return
            try:
                await self._look(context)
            except LuthierError as error:
                logger.warning("authorizations not checked code=%s", error.code)

    async def _look(self, context: Context) -> None:
        """Authorizes again whoever has a token or was last checked at another database version; stores each outcome."""
        version = context.database.version()
        due: defaultdict[Credentials, list[WatchedRequest]] = defaultdict(list)
        for request in self._watched:
            if request.credentials.expires or request.authorized_at_version != version:
                due[request.credentials].append(request)
        for credentials, requests in due.items():
            error = await _refusal(context, credentials)
            for request in requests:
                request.store_outcome(version, error)


async def _refusal(context: Context, credentials: Credentials) -> LuthierError | None:
    """As `authentication.refusal`; a cached key needs no thread."""
    if authentication.is_cached(context, credentials):
        return None
    threads = Workers.TOKENS if credentials.expires else Workers.KEYS
    return await thread_pools.run(threads, partial(authentication.refusal, context, credentials))
