"""Whose line of a batch begins next: so many at a time, resources in round-robin order."""

import asyncio
from collections import deque


class Turns:
    """Permits for lines in progress. Lives on one event loop; each `take` is followed by a `give_back`."""

    def __init__(self, permits: int) -> None:
        self._free = permits
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by resource, in round-robin order

    async def take(self, resource_id: str) -> None:
        """Waits for a permit; a waiter that is cancelled leaves the queue."""
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(resource_id, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._remove(resource_id, turn)
            else:  # the permit came while its waiter was being cancelled
                self.give_back()
            raise

    def give_back(self) -> None:
        """Gives the permit to the next resource's oldest waiter, if there is one."""
        while self._waiting:
            resource_id = next(iter(self._waiting))
            turns = self._waiting.pop(resource_id)
            turn = turns.popleft()
            if turns:
                self._waiting[resource_id] = turns  # behind the other resources
            if not turn.cancelled():
                turn.set_result(None)
                return
        self._free += 1

    def _remove(self, resource_id: str, turn: "asyncio.Future[None]") -> None:
        """Takes a waiter out of the queue; one that is not there is no error."""
        turns = self._waiting.get(resource_id, deque())
        if turn in turns:
            turns.remove(turn)
        if not turns:
            self._waiting.pop(resource_id, None)
