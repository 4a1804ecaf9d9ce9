"""Sends the metrics of jobs to one experiment tracker, from the events in the database, in a thread of its own.

A tracker that hangs or fails holds up this thread and nothing else: no transaction is open while it is called. What it
has is a cursor for each job; what is under way at a crash is sent again, and the sink drops what it has already.
"""

import logging
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from luthier.core.errors import LuthierError, Unavailable
from luthier.core.models import Event
from luthier.core.ports import MetricsSink
from luthier.core.states import EventCode, EventLevel, SinkState
from luthier.core.training.tracking import Delivery
from luthier.service.background import tracked_runs
from luthier.service.background.tracked_runs import News
from luthier.service.context import Context
from luthier.service.jobs import job_events
from luthier.store.queries import events
from luthier.store.queries.delivery import sink_cursors
from luthier.store.queries.delivery.sink_cursors import SinkCursor

logger = logging.getLogger(__name__)

WARN_AFTER = 3
"""Failures in a row before a job's events tell of them: a restart of the tracker is not worth a warning."""
FIRST_WAIT_S = 1.0
MAX_WAIT_S = 300.0
MAX_RETRY_AFTER_S = 3600.0
STOP_S = 1.0


@dataclass(slots=True)
class SinkWorker:
    """Works by `tick`; `start` runs it in a thread until `stop`. One worker per sink of a data folder.

    `chance` gives numbers from 0 to 1, for the jitter of waits.
    """

    context: Context
    sink: MetricsSink
    tick_s: float = 0.5
    chance: Callable[[], float] = random.random
    _sent: dict[str, int] = field(default_factory=dict)
    """The number of the last event that the sink was sent of each job, confirmed or not."""
    _is_first: bool = True
    _stopping: threading.Event = field(default_factory=threading.Event)
    _closed: threading.Event = field(default_factory=threading.Event)
    """Set when a stop does not wait any longer: the database is about to be closed."""
    _thread: threading.Thread | None = None

    def tick(self) -> None:
        """Sends what is new of every job whose turn it is. Blocks as long as the tracker does, within its timeouts."""
        states = [SinkState.OPEN, SinkState.FAILING]
        if self._is_first:
            tracked_runs.add_open_jobs(self.context, self.sink.name)
            states.append(SinkState.REFUSED)  # a setting may have changed since
            self._is_first = False
        with self.context.database.reading() as tx:
            due = sink_cursors.list_due(tx, self.sink.name, states, self.context.now())
        for job_id in self._sent.keys() - {cursor.job_id for cursor in due}:
            self._forget(job_id)  # it was deleted
        for cursor in due:
            if not self._stopping.is_set():
                self._advance(cursor)

    def start(self) -> None:
        """Starts the thread."""
        self._thread = threading.Thread(target=self._run, name=f"sink-{self.sink.name}", daemon=True)
        self._thread.start()

    def begin_stop(self) -> None:
        """Ends the work after the call that is under way. Returns at once."""
        self._stopping.set()

    def stop(self) -> None:
        """As `begin_stop`; waits STOP_S at most and closes the sink. The next start sends what was under way."""
        self.begin_stop()
        if self._thread is not None:
            self._thread.join(STOP_S)
        self._closed.set()
        self.sink.close()

    def _run(self) -> None:
        """The thread's loop. What a pass raises is logged."""
        while not self._stopping.is_set():
            try:
                self.tick()
            except LuthierError as error:  # the database is busy, or its disk full
                logger.error("tick failed loop=sink-%s code=%s", self.sink.name, error.code)
            except Exception:
                if not self._stopping.is_set():
                    logger.exception("tick failed loop=sink-%s", self.sink.name)
            self._stopping.wait(self.tick_s)

    def _advance(self, cursor: SinkCursor) -> None:
        """Sends one part of what is new of one job, and writes how that ended."""
        news = tracked_runs.read_news(self.context, cursor, self._sent.get(cursor.job_id, cursor.cursor))
        if news is None:
            self._forget(cursor.job_id)
        elif news.run is None:
            if news.end is not None:
                self._save(cursor, replace(cursor, state=SinkState.DONE, error=None, next_at=None))
        elif news.points or news.end or cursor.run_id is None or cursor.state is not SinkState.OPEN:
            self._deliver(cursor, news)
        else:
            self._sent[cursor.job_id] = news.last_seq  # events without figures

    def _deliver(self, cursor: SinkCursor, news: News) -> None:
        """Calls the sink, without a transaction, and writes what it answers."""
        assert news.run is not None
        try:
            delivery = self.sink.deliver(news.run, news.points, news.end)
        except LuthierError as error:
            self._fail(cursor, error)
        except Exception as error:  # noqa: BLE001 - a bug in a sink is a failing sink; its text may be a tracker's
            logger.error("bug in a sink sink=%s job=%s kind=%s", cursor.sink, cursor.job_id, type(error).__name__)
            self._fail(cursor, Unavailable("sink_bug", "An internal error; the service's log has it."))
        else:
            self._succeed(cursor, news, delivery)

    def _succeed(self, cursor: SinkCursor, news: News, delivery: Delivery) -> None:
        """Writes the cursor, and tells the user of a run that was opened and of a sink that works again."""
        after = replace(
            cursor,
            cursor=news.last_seq if news.end is not None else max(cursor.cursor, delivery.confirmed),
            state=SinkState.OPEN if news.end is None else SinkState.DONE,
            tries=0,
            next_at=None,
            error=None,
            run_id=delivery.run_id,
            place=delivery.place,
        )
        told, shown = [], {"sink": str(cursor.sink), "place": delivery.place}
        if cursor.run_id is None:
            told.append(job_events.message(self.context, cursor.job_id, EventCode.TRACKING_STARTED, shown))
        if cursor.state is not SinkState.OPEN:
            told.append(job_events.message(self.context, cursor.job_id, EventCode.TRACKING_CAUGHT_UP, shown))
        if self._save(cursor, after, told):
            self._sent[cursor.job_id] = news.last_seq
        if news.end is not None:
            self._forget(cursor.job_id)

    def _fail(self, cursor: SinkCursor, error: LuthierError) -> None:
        """Writes when the next try is, and tells the user once that the sink is failing."""
        self._sent.pop(cursor.job_id, None)
        tries = cursor.tries + 1
        is_final = not isinstance(error, Unavailable)
        was_told = cursor.state is not SinkState.OPEN
        state, next_at = SinkState.REFUSED, None
        if not is_final:
            state = SinkState.FAILING if was_told or tries >= WARN_AFTER else SinkState.OPEN
            next_at = self.context.now() + timedelta(seconds=self._wait_s(tries, error))
        after = replace(cursor, state=state, tries=tries, next_at=next_at, error=error.code)
        told = []
        if state is not SinkState.OPEN and not was_told:
            values = {"sink": str(cursor.sink), "error": error.code, "is_final": is_final, "text": error.message}
            code, level = EventCode.TRACKING_FAILING, EventLevel.WARNING
            told.append(job_events.message(self.context, cursor.job_id, code, values, level=level))
            logger.warning("sink failing sink=%s job=%s code=%s", cursor.sink, cursor.job_id, error.code)
        self._save(cursor, after, told)

    def _wait_s(self, tries: int, error: LuthierError) -> float:
        """Seconds to the next try: doubled with each, half of them by chance, and never less than the tracker asked."""
        wait_s = min(FIRST_WAIT_S * 2.0 ** min(tries - 1, 20), MAX_WAIT_S) * (0.5 + self.chance() / 2)
        asked_s = error.retry_after_s if isinstance(error, Unavailable) else None
        return max(wait_s, min(asked_s or 0.0, MAX_RETRY_AFTER_S))

    def _save(self, before: SinkCursor, after: SinkCursor, told: Sequence[Event] = ()) -> bool:
        """Writes the cursor where it has changed, and the events. False if the job is gone."""
        if after == before or self._closed.is_set():
            return True
        with self.context.database.writing() as tx:
            if saved := sink_cursors.save(tx, after):
                events.insert_events(tx, told)
        if not saved:
            self._forget(after.job_id)
        return saved

    def _forget(self, job_id: str) -> None:
        """Drops what is held in memory of a job that is done or gone."""
        self._sent.pop(job_id, None)
        self.sink.forget(job_id)
