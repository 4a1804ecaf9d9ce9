"""The columns of jobs whose metrics were asked for lately, in memory and bounded: a read parses only what is new."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from luthier.service.job_views.metric_columns import Columns
from luthier.store.db import Connection
from luthier.store.queries import events

MAX_BYTES = 64 * 1024 * 1024


@dataclass(eq=False, slots=True)
class _Entry:
    """The columns of one job; whoever reads or extends them holds the lock."""

    columns: Columns = field(default_factory=Columns)
    lock: threading.Lock = field(default_factory=threading.Lock)


class MetricsCache:
    """Columns by job, at most `max_bytes` of them; those that were not read for the longest time leave first.

    Safe to use from many threads. It holds nothing that the database does not: a lost entry is read again.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def bytes(self) -> int:
        """What all columns in memory occupy."""
        with self._lock:
            return sum(entry.columns.bytes for entry in self._entries.values())

    def read(self, tx: Connection, job_id: str, from_step: int | None, to_step: int | None) -> Columns:
        """A copy of a job's rows from one step to another, both included, None for no bound.

        Reads the events that are not in memory yet in the caller's transaction. The caller has checked whose job it is.
        """
        with self._lock:
            entry = self._entries.setdefault(job_id, _Entry())
            self._entries.move_to_end(job_id)
        with entry.lock:
            for rows in events.metrics_after(tx, job_id, entry.columns.last_seq):
                entry.columns.extend(rows)
            part = entry.columns.part(from_step, to_step)
        self._trim()
        return part

    def forget(self, job_id: str) -> None:
        """Drops the columns of a job that was deleted."""
        with self._lock:
            self._entries.pop(job_id, None)

    def _trim(self) -> None:
        """Drops the columns that were not read for the longest time until the others fit."""
        with self._lock:
            total = sum(entry.columns.bytes for entry in self._entries.values())
            while total > self._max_bytes:
                _, entry = self._entries.popitem(last=False)
                total -= entry.columns.bytes
