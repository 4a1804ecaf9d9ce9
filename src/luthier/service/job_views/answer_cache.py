"""Answers that were computed lately, as bytes by the version of their content; in memory and bounded."""

import threading
from collections import OrderedDict
from collections.abc import Callable

MAX_BYTES = 8 * 1024 * 1024


class AnswerCache:
    """At most `max_bytes` of answers; those that were not asked for the longest time leave first.

    Safe to use from many threads. A version names its content for good: nothing in it becomes stale.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._answers: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def size_bytes(self) -> int:
        """What all answers in memory occupy."""
        with self._lock:
            return self._bytes

    def get(self, version: str, compute: Callable[[], bytes]) -> bytes:
        """The answer of a version, computed if it is not here; two threads may compute it at once."""
        with self._lock:
            if (answer := self._answers.get(version)) is not None:
                self._answers.move_to_end(version)
                return answer
        answer = compute()
        with self._lock:
            self._bytes += len(answer) - len(self._answers.get(version, b""))
            self._answers[version] = answer
            while self._bytes > self._max_bytes:
                _, oldest = self._answers.popitem(last=False)
                self._bytes -= len(oldest)
        return answer
