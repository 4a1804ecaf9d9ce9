"""Answers on their way into a journal: those that come together are synced together, and a full disk is waited for."""

import asyncio
import logging
from contextlib import suppress

from luthier.core.errors import NoSpace
from luthier.service.batches import whole_steps
from luthier.service.batches.journal import Journal, Record

logger = logging.getLogger(__name__)

RETRY_S = 5.0
"""After so long a full disk is tried again."""

_Waiting = list[tuple[Record, "asyncio.Future[None]"]]


class JournalWriter:
    """Appends to one journal, in a worker thread. Lives on one event loop; `close` is its end."""

    def __init__(self, journal: Journal, retry_s: float = RETRY_S) -> None:
        self.journal = journal
        self._retry_s = retry_s
        self._waiting: _Waiting = []
        self._flushing: asyncio.Task[None] | None = None

    async def append(self, record: Record) -> None:
        """Returns once the answer is on disk: on a full one, when there is room again. Raises OSError."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((record, future))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush())
        await future

    async def close(self) -> None:
        """Waits for the append under way; gives up what waits for room on a full disk."""
        if self._flushing is not None:
            self._flushing.cancel()
            with suppress(asyncio.CancelledError):
                await self._flushing

    async def _flush(self) -> None:
        """Appends whatever waits, group by group, until nothing does. A group's error is that of its callers."""
        while self._waiting:
            group, self._waiting = self._waiting, []
            try:
                await self._append(group)
            except OSError as error:
                for _, future in group:
                    if not future.done():
                        future.set_exception(error)
                continue
            for _, future in group:
                if not future.done():
                    future.set_result(None)

    async def _append(self, group: _Waiting) -> None:
        """Appends a group in a thread, again and again while the disk is full."""
        while True:
            try:
                await whole_steps.in_thread(self.journal.append, [record for record, _ in group])
            except NoSpace as error:
                logger.error("answers of a batch wait: %s", error)
                await asyncio.sleep(self._retry_s)
                continue
            return
