"""Posts the deliveries of webhooks that are due: several at once, and no endpoint in the way of another.

A delivery is claimed in memory alone, since one process serves a data folder: a kill between its POST and the record of
it leaves it pending, and it is posted again with the same webhook-id.
"""

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from luthier.core.errors import LuthierError
from luthier.service.context import Context
from luthier.service.webhooks import deliveries
from luthier.service.webhooks.deliveries import Outcome
from luthier.store.queries.webhooks import outbox
from luthier.store.queries.webhooks.outbox import Due

logger = logging.getLogger(__name__)

PER_ENDPOINT = 2
PER_RESOURCE = 8
AT_ONCE = 32
"""Deliveries under way at most. Each ends within deliveries.MAX_SECONDS, and four resources fill all places."""
STOP_S = 2.0


@dataclass(slots=True)
class WebhookWorker:
    """Works by `tick`; `start` runs it in a thread until `stop`. One worker for a data folder."""

    context: Context
    tick_s: float = 0.5
    chance: Callable[[], float] = random.random
    _under_way: dict[str, Due] = field(default_factory=dict)
    _unrecorded: list[Outcome] = field(default_factory=list)
    _threads: set[threading.Thread] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def tick(self) -> None:
        """Begins every delivery that is due and has a place, each in a thread of its own; waits for none."""
        self._record_late()
        for due in self._claim():
            thread = threading.Thread(target=self._deliver, args=(due,), name="webhook", daemon=True)
            with self._lock:
                self._threads.add(thread)
            thread.start()

    def settle(self, within_s: float) -> None:
        """Waits until every delivery that has begun has ended, `within_s` at most."""
        deadline = time.monotonic() + within_s
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def start(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._thread.start()

    def begin_stop(self) -> None:
        """Begins no further delivery. Returns at once."""
        self._stopping.set()

    def stop(self) -> None:
        """As `begin_stop`, and waits for what is under way, STOP_S at most: the next start sends the rest again."""
        self.begin_stop()
        if self._thread is not None:
            self._thread.join(STOP_S)
        self.settle(STOP_S)

    def _run(self) -> None:
        """The thread's loop. What a pass raises is logged."""
        while not self._stopping.is_set():
            try:
                self.tick()
            except LuthierError as error:
                logger.error("webhooks wait code=%s", error.code)
            except Exception:
                if not self._stopping.is_set():
                    logger.exception("tick failed loop=webhooks")
            self._stopping.wait(self.tick_s)

    def _claim(self) -> list[Due]:
        """What is due and has a place, marked as under way.

        The database is read under the lock: a delivery that is recorded in between would still be due in what was read,
        and no longer under way.
        """
        with self._lock:
            with self.context.database.reading() as tx:
                waiting = outbox.list_due(tx, self.context.now(), PER_ENDPOINT)
            endpoints = Counter(due.endpoint.id for due in self._under_way.values())
            resources = Counter(due.endpoint.resource_id for due in self._under_way.values())
            claimed = []
            for due in waiting:
                endpoint, resource = due.endpoint.id, due.endpoint.resource_id
                is_full = endpoints[endpoint] >= PER_ENDPOINT or resources[resource] >= PER_RESOURCE
                if due.delivery.id in self._under_way or is_full or len(self._under_way) >= AT_ONCE:
                    continue
                self._under_way[due.delivery.id] = due
                endpoints[endpoint] += 1
                resources[resource] += 1
                claimed.append(due)
            return claimed

    def _deliver(self, due: Due) -> None:
        """Makes one attempt and records it; a fault of ours is an attempt that failed."""
        try:
            outcome = deliveries.attempt(self.context, due)
        except Exception:
            logger.exception("webhook failed id=%s", due.delivery.id)
            outcome = Outcome(due, self.context.now(), error="internal_error")
        try:
            self._finish(outcome)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _finish(self, outcome: Outcome) -> None:
        """Records an outcome. One that cannot be recorded keeps its place until it is: what was accepted is not sent
        again, on a full disk, at each tick.
        """
        try:
            deliveries.record(self.context, outcome, self.chance())
        except Exception as error:
            with self._lock:
                self._unrecorded.append(outcome)
            if isinstance(error, LuthierError):
                logger.error("webhook not recorded id=%s code=%s", outcome.due.delivery.id, error.code)
            elif not self._stopping.is_set():
                logger.exception("webhook not recorded id=%s", outcome.due.delivery.id)
        else:
            with self._lock:
                self._under_way.pop(outcome.due.delivery.id, None)

    def _record_late(self) -> None:
        """Records what could not be recorded before."""
        with self._lock:
            late, self._unrecorded = self._unrecorded, []
        for outcome in late:
            self._finish(outcome)
