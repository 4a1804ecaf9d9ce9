"""Limits on request bodies that arrive at once: their rate, their number and their memory, per caller and in all."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

import anyio

from luthier.api.http.heap import Heap
from luthier.core.errors import RateLimited
from luthier.core.models import Principal

MIB = 2**20
PARSE_THREADS = 2
"""Parsing holds the interpreter lock: more threads would not parse faster, and hold more memory."""
RETRY_AFTER_S = 5.0
MAX_WAITING_FACTOR = 8
"""How many uploads of a key may wait, as a multiple of those it may have open; a waiting one holds a connection."""
_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """Seconds, bytes and numbers that request bodies may take. `docs/operating.md` has each as a setting."""

    idle_s: float = 30.0
    """How long a body may pause."""
    grace_s: float = 60.0
    min_bytes_per_s: int = 4096
    """The time for a whole body: `grace_s`, plus the time that its bytes take at this rate."""
    uploads: int = 64
    uploads_per_key: int = 16
    """How many files and parts may be uploaded at once."""
    upload_wait_s: float = 10.0
    """Not a setting: how long a further one waits for its turn. A burst of small files is over by then."""
    held_bytes: int = 64 * MIB
    """How many bytes of JSON may be held at once; half of it by one resource."""

    def allowed_s(self, received_bytes: int) -> float:
        """How long a body may have taken of which so much has arrived."""
        return self.grace_s + received_bytes / self.min_bytes_per_s


@dataclass(slots=True)
class Intake:
    """The bodies that are arriving: uploads by key, held bytes of JSON by resource.

    `parse_threads` limits how many large JSON bodies are parsed at once; `heap` is trimmed after large bodies. Belongs
    to one event loop, and so needs no lock.
    """

    limits: BodyLimits = field(default_factory=BodyLimits)
    parse_threads: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(PARSE_THREADS))
    heap: Heap = field(default_factory=Heap)
    _uploads: Counter[tuple[str, str]] = field(default_factory=Counter)
    _queue: "deque[tuple[tuple[str, str], asyncio.Future[None]]]" = field(default_factory=deque)
    _held: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def upload(self, caller: Principal) -> AsyncIterator[None]:
        """Holds a slot for one file or part while the block runs, once one is free.

        Raises RateLimited if none becomes free in time.
        """
        key = (caller.resource.id, caller.key_name)
        if (reason := self._limit_reached(key)) is None:
            self._uploads[key] += 1
        else:
            await self._wait_for_turn(key, reason)
        try:
            yield
        finally:
            self._release_upload(key)
            self.heap.trim_soon()

    async def _wait_for_turn(self, key: tuple[str, str], reason: str) -> None:
        """Queues until `_release_upload` gives this key a slot, `upload_wait_s` seconds at most.

        Raises RateLimited, with `reason`, then or at once if too many uploads of the key wait already. A cancelled wait
        gives its slot back.
        """
        if sum(waiting == key for waiting, _ in self._queue) >= MAX_WAITING_FACTOR * self.limits.uploads_per_key:
            raise _retry_later("too_many_uploads", reason)
        turn = asyncio.get_running_loop().create_future()
        self._queue.append((key, turn))
        try:
            async with asyncio.timeout(self.limits.upload_wait_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():  # its turn came as it gave up
                self._release_upload(key)
            with suppress(ValueError):
                self._queue.remove((key, turn))
            if isinstance(error, TimeoutError):
                raise _retry_later("too_many_uploads", reason) from None
            raise

    def _release_upload(self, key: tuple[str, str]) -> None:
        """Frees a slot, and gives it to the first waiting upload that may have it."""
        _decrease(self._uploads, key, 1)
        for entry in self._queue:
            waiting, turn = entry
            if not turn.done() and self._limit_reached(waiting) is None:
                self._queue.remove(entry)
                self._uploads[waiting] += 1
                turn.set_result(None)
                return

    def _limit_reached(self, key: tuple[str, str]) -> str | None:
        """The limit that a further upload of this key would exceed; None if it may begin."""
        if self._uploads[key] >= self.limits.uploads_per_key:
            return f"This key has {self.limits.uploads_per_key} uploads open, the most that it may have."
        if self._uploads.total() >= self.limits.uploads:
            return f"{self.limits.uploads} uploads are open, the most that this service allows."
        return None

    def hold(self, resource_id: str, length: int) -> None:
        """Counts `length` bytes of JSON in memory for a resource, until `release`.

        Raises RateLimited, and counts nothing, above the limit of all or above half of it for one resource.
        """
        total = self._held[resource_id] + length
        if total > self.limits.held_bytes // 2 or self._held.total() + length > self.limits.held_bytes:
            raise _retry_later("too_many_bytes_at_once", "Too many large requests are arriving at once.")
        self._held[resource_id] = total

    def release(self, resource_id: str, length: int) -> None:
        """Gives bytes of `hold` back; after large ones the heap is trimmed a second later."""
        _decrease(self._held, resource_id, length)
        if length >= MIB:
            self.heap.trim_soon()


def _decrease(counter: "Counter[_Key]", key: _Key, number: int) -> None:
    """Subtracts from the counter and removes a key that reaches 0, so that it holds only what is open."""
    counter[key] -= number
    if counter[key] <= 0:
        del counter[key]


def _retry_later(code: str, text: str) -> RateLimited:
    """The 429 for a limit of arriving bodies: `text` says which."""
    return RateLimited(code, f"{text} Send the request again in {RETRY_AFTER_S:.0f} seconds.", RETRY_AFTER_S)
