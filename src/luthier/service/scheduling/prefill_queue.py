"""Whose long prompt an engine prefills next: one at a time, resources in round-robin order.

llama.cpp fills each batch in the order of its slots: a prompt in a later slot is not prefilled before those in earlier
ones. Without this queue, one resource that keeps long prompts coming would starve all others.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

LONG_TOKENS = 128
"""A batch of the engine (`engines.llamacpp.server`): a short prompt waits for at most one batch of a long one."""


class PrefillQueue:
    """The queue of long prompts before one engine. Lives on one event loop."""

    def __init__(self) -> None:
        self._is_busy = False
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # by resource, in round-robin order

    @asynccontextmanager
    async def turn(self, resource_id: str, tokens: int) -> AsyncIterator[Callable[[], None]]:
        """Waits for the turn to have so many tokens prefilled; a short prompt does not wait.

        The callback that it gives ends the turn, at the latest the exit from the context does.
        """
        if tokens <= LONG_TOKENS:
            yield lambda: None
            return
        await self._wait(resource_id)
        is_ended = False

        def end_turn() -> None:
            """Ends the turn, and begins the next one; a second call does nothing."""
            nonlocal is_ended
            if not is_ended:
                is_ended = True
                self._start_next()

        try:
            yield end_turn
        finally:
            end_turn()

    async def _wait(self, resource_id: str) -> None:
        """Returns once it is this prompt's turn; a waiter that is cancelled leaves the queue."""
        if not self._is_busy:
            self._is_busy = True
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(resource_id, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._remove(resource_id, turn)
            else:  # the turn came while its waiter was being cancelled
                self._start_next()
            raise

    def _start_next(self) -> None:
        """Gives the turn to the next resource's oldest prompt; the engine is free if none waits."""
        while self._waiting:
            resource_id = next(iter(self._waiting))
            turns = self._waiting.pop(resource_id)
            turn = turns.popleft()
            if turns:
                self._waiting[resource_id] = turns  # behind the other resources
            if not turn.cancelled():
                turn.set_result(None)
                return
        self._is_busy = False

    def _remove(self, resource_id: str, turn: "asyncio.Future[None]") -> None:
        """Takes a prompt's turn out of the queue; one that is not there is no error."""
        turns = self._waiting.get(resource_id, deque())
        if turn in turns:
            turns.remove(turn)
        if not turns:
            self._waiting.pop(resource_id, None)
