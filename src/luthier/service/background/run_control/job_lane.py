"""A lane: actions on jobs in a few threads of their own, so that a slow one holds up neither a tick nor the others."""

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from luthier.core.models import Job

Action = Callable[[Job], object]


@dataclass(slots=True)
class JobLane:
    """Until `start` an action is done by the caller of `submit`, which makes a tick by hand deterministic; from then on
    by one of at most `threads` daemon threads. `guard` does the action and raises nothing; `stopping` says when those
    that wait are dropped.

    The caller submits nothing for a job of `in_flight`, and takes that set before it reads the rows of jobs: an action
    that ends between the two has changed the row, and an action on the old one would repeat its work.
    """

    name: str
    threads: int
    guard: Callable[[Job, Action], None]
    stopping: Callable[[], bool]
    _has_threads: bool = False
    _queue: "queue.SimpleQueue[tuple[Job, Action] | None]" = field(default_factory=queue.SimpleQueue)
    _busy: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _running: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Lets the actions be done by threads; each is started when it is first needed."""
        self._has_threads = True

    def in_flight(self) -> frozenset[str]:
        """The ids of the jobs whose action is not done."""
        with self._lock:
            return frozenset(self._busy)

    def submit(self, job: Job, action: Action) -> None:
        """Has the action done: now, or by a thread."""
        with self._lock:
            self._busy.add(job.id)
            if self._has_threads and len(self._running) < min(self.threads, len(self._busy)):
                thread = threading.Thread(target=self._work, name=f"{self.name}-{len(self._running) + 1}", daemon=True)
                self._running.append(thread)
                thread.start()
        if self._has_threads:
            self._queue.put((job, action))
        else:
            self._do(job, action)

    def stop(self, deadline: float) -> None:
        """Ends the threads, those in the middle of an action as far as they end before the `deadline` (monotonic)."""
        for _ in self._running:
            self._queue.put(None)
        for thread in self._running:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        """A thread's loop, until it takes a None."""
        while (item := self._queue.get()) is not None:
            self._do(*item)

    def _do(self, job: Job, action: Action) -> None:
        try:
            if not self.stopping():
                self.guard(job, action)
        finally:
            with self._lock:
                self._busy.discard(job.id)
