"""Heartbeats of a run's ranks: a thread of each counts in their shared store, and ends the process if another stops.

A rank that is killed closes its connections, which ends the collective that others wait in; one that hangs (SIGSTOP, a
cut link, a dead node) closes nothing. Rank 0 watches all others, and they watch rank 0.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Mapping

from torch.distributed import Store  # type: ignore[attr-defined]

from luthier.run_directory.run_directory import EXIT_RANK_LOST

TIMEOUT_VARIABLE = "LUTHIER_RANK_TIMEOUT_S"
"""The environment variable with the seconds after which a rank that does not count is lost."""
TIMEOUT_S = 60.0


class Heartbeats:
    """How long ago each watched rank was seen to count, by this process's clock: no two clocks are compared."""

    def __init__(self, watched: list[int], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts = dict.fromkeys(watched, -1)
        self._seen_at = dict.fromkeys(watched, clock())

    def note(self, counts: Mapping[int, int]) -> None:
        """Takes the present counts of the watched ranks."""
        for rank, count in counts.items():
            if count != self._counts[rank]:
                self._counts[rank], self._seen_at[rank] = count, self._clock()

    def lost(self, timeout_s: float) -> int | None:
        """A rank that has not counted for so long; None if there is none."""
        now = self._clock()
        return next((rank for rank, seen_at in self._seen_at.items() if now - seen_at > timeout_s), None)


class RankWatch:
    """Two threads: one counts for this rank and reads the others' counts, one judges; a call to the store may hang."""

    def __init__(self, store: Store, rank: int, size: int) -> None:
        self._store = store
        self._rank = rank
        self._timeout_s = float(os.environ.get(TIMEOUT_VARIABLE, TIMEOUT_S))
        self._stopped = threading.Event()
        self._interval_s = min(2.0, self._timeout_s / 10)
        self._watched = list(range(1, size)) if rank == 0 else [0]

    def stop(self) -> None:
        """From here on no rank is missed: all are at their end."""
        self._stopped.set()

    def start(self) -> None:
        """Starts the threads, which live until `stop` or the end of the process."""
        beats = Heartbeats(self._watched)
        for run in (self._beat, self._judge):
            threading.Thread(target=run, args=(beats,), name=f"rank-watch{run.__name__}", daemon=True).start()

    def _beat(self, beats: Heartbeats) -> None:
        """Counts a few times per timeout; ends the process where the store is gone."""
        while not self._stopped.is_set():
            try:
                self._store.add(f"beat/{self._rank}", 1)
                beats.note({rank: self._store.add(f"beat/{rank}", 0) for rank in self._watched})
            except RuntimeError:  # rank 0 holds the store
                self._leave("rank 0 is gone")
            self._stopped.wait(self._interval_s)

    def _judge(self, beats: Heartbeats) -> None:
        """Ends the process where a watched rank has not counted for the timeout."""
        while not self._stopped.wait(self._interval_s):
            if (rank := beats.lost(self._timeout_s)) is not None:
                self._leave(f"rank {rank} has not answered for {self._timeout_s:g} s")

    def _leave(self, words: str) -> None:
        """Ends this process as a kill would: its next attempt resumes from the saved step. Unless it is at its end."""
        if not self._stopped.is_set():
            sys.stderr.write(f"{words}: this attempt ends\n")
            sys.stderr.flush()
            os._exit(EXIT_RANK_LOST)
