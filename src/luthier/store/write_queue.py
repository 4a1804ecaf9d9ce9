"""A FIFO lock for threads, with a timeout: the turn of `Database.writing` among the writers of this process."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class QueueTimeout(Exception):
    """The lock was not free in time; the caller does not hold it."""


@dataclass(slots=True)
class WriteQueue:
    """A fair mutex, passed on by its holder to the thread that has waited longest: none polls, none overtakes another.

    `_waiting` has one event per waiting thread, set when it gets the lock. Not reentrant.
    """

    _guard: threading.Lock = field(default_factory=threading.Lock)
    _waiting: deque[threading.Event] = field(default_factory=deque)
    _is_held: bool = False

    @property
    def waiting(self) -> int:
        """How many threads wait for the lock; its holder is not counted."""
        return len(self._waiting)

    @contextmanager
    def held(self, timeout_s: float) -> Iterator[None]:
        """Holds the lock for the block; released also when the block raises. Raises QueueTimeout, without the lock, if
        it was not free within `timeout_s` seconds.
        """
        self._acquire(timeout_s)
        try:
            yield
        finally:
            self._hand_over()

    def _acquire(self, timeout_s: float) -> None:
        """Takes the lock if it is free, else waits at the end of the queue. Raises QueueTimeout after `timeout_s`
        seconds, and has left the queue then.
        """
        with self._guard:
            if not self._is_held:
                self._is_held = True
                return
            turn = threading.Event()
            self._waiting.append(turn)
        if turn.wait(timeout_s):
            return
        with self._guard:
            if not turn.is_set():
                self._waiting.remove(turn)
                raise QueueTimeout
        # It was handed over just as the wait timed out: this thread holds it.

    def _hand_over(self) -> None:
        """Gives the lock to the thread that has waited longest, or frees it if none waits. Only its
        holder may call it.
        """
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._is_held = False
