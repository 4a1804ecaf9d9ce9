"""Places for what runs without a caller: so many at once, and resources take turns at them."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class FairPlaces:
    """So many places. While all are taken, each resource's first waiter gets one in turn, however many it has.

    Lives on one event loop.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """By resource, in the order of their turns. Empty while a place is free."""

    @asynccontextmanager
    async def place(self, resource_id: str) -> AsyncGenerator[None]:
        """A place for as long as the block runs; waits for one. A waiter that is cancelled leaves nothing taken."""
        await self._take(resource_id)
        try:
            yield
        finally:
            self._give()

    async def _take(self, resource_id: str) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(resource_id, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # the place had been given before the waiter could take it
                self._give()
            raise

    def _give(self) -> None:
        """Gives a place to whose turn it is; frees it if nobody waits."""
        while self._waiting:
            resource_id, turns = next(iter(self._waiting.items()))
            del self._waiting[resource_id]
            while turns:
                turn = turns.popleft()
                if turn.done():  # its waiter was cancelled
                    continue
                if turns:
                    self._waiting[resource_id] = turns  # its next turn comes after that of every other resource
                turn.set_result(None)
                return
        self._free += 1
