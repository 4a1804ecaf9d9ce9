"""An open batch in memory: its lines, what is answered, what waits, and when it may go on."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from luthier.core.inference.batches import Batch, BatchCounts
from luthier.service.batches.batch_folder import BatchFolder
from luthier.service.batches.input_lines import LinePlace
from luthier.service.batches.journal import Journal
from luthier.service.batches.journal_writer import JournalWriter

FIRST_BACKOFF_S, MAX_BACKOFF_S = 1.0, 30.0
MAX_ENGINE_FAULTS = 3
"""So often a line is sent to an engine that fails at it; then that is its answer."""


@dataclass(slots=True)
class Backoff:
    """How long a batch waits after calls that may succeed later: twice as long each time, until one has succeeded.

    `clock` gives monotonic seconds.
    """

    first_s: float = FIRST_BACKOFF_S
    most_s: float = MAX_BACKOFF_S
    clock: Callable[[], float] = time.monotonic
    _next_s: float = 0.0
    _until: float = 0.0

    def note_success(self) -> None:
        self._next_s = 0.0

    def note_failure(self, retry_after_s: float | None) -> None:
        """Begins a wait, of `retry_after_s` at least if that is known and not longer than the longest."""
        asked_s = min(retry_after_s or 0.0, self.most_s)
        if self.left_s:  # one of several lines that failed together
            self._until = max(self._until, self.clock() + asked_s)
            return
        wait_s = self._next_s or self.first_s
        self._until = self.clock() + max(wait_s, asked_s)
        self._next_s = min(2 * wait_s, self.most_s)

    @property
    def left_s(self) -> float:
        """Seconds that are still to be waited; 0 for none."""
        return max(0.0, self._until - self.clock())


@dataclass(slots=True, eq=False)
class OpenBatch:
    """The lines of one batch on the event loop. `over` is set once no more of them shall begin; `tasks` are those in
    progress, by which an error of the service ends the batch's work (`error`).
    """

    batch: Batch
    folder: BatchFolder
    places: Sequence[LinePlace]
    writer: JournalWriter
    backoff: Backoff
    pending: deque[int] = field(default_factory=deque)
    has_pending: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: "set[asyncio.Task[None]]" = field(default_factory=set)
    engine_faults: dict[int, int] = field(default_factory=dict)
    error: BaseException | None = None
    written_counts: BatchCounts = field(default_factory=BatchCounts)
    """Those that the database has."""

    @property
    def journal(self) -> Journal:
        return self.writer.journal

    def begin(self) -> None:
        """Lets every line wait that has no answer in the journal."""
        self.pending.extend(index for index in range(len(self.places)) if index not in self.journal.entries)
        self.has_pending.set()
        self.look_whether_over()

    def put_back(self, index: int) -> None:
        """Lets a line wait again, behind the others."""
        self.pending.append(index)
        self.has_pending.set()

    def is_engine_fault_final(self, index: int) -> bool:
        """Counts that the engine has failed at a line; whether that is the line's answer. Else it waits again."""
        self.engine_faults[index] = self.engine_faults.get(index, 0) + 1
        return self.engine_faults[index] >= MAX_ENGINE_FAULTS

    def look_whether_over(self) -> None:
        """Sets `over` once every line has an answer."""
        if len(self.journal.entries) >= len(self.places):
            self.over.set()

    def ended(self, task: "asyncio.Task[None]") -> None:
        """Forgets a line's task that is done; its error ends the work on the batch."""
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.error = error
            self.over.set()
