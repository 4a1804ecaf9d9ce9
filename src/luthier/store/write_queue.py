"""A FIFO lock for threads, with a timeout."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class QueueTimeout(Exception):
    """The lock was not free in time; the caller does not hold it."""


@dataclass(slots=True)
class WriteQueue:
    """A fair mutex, handed over by its holder: no thread polls, and none overtakes another."""

    _guard: threading.Lock = field(default_factory=threading.Lock)
    _waiting: deque[threading.Event] = field(default_factory=deque)
    _is_held: bool = False

    @property
    def waiting(self) -> int:
        """How many threads wait for the lock."""
        return len(self._waiting)

    @contextmanager
    def held(self, timeout_s: float) -> Iterator[None]:
        """Holds the lock. Raises QueueTimeout."""
        self._acquire(timeout_s)
        try:
            yield
        finally:
            self._hand_over()

    def _acquire(self, timeout_s: float) -> None:
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
        with self._guard:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._is_held = False
