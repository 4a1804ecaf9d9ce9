"""The clock for deletions by time: it follows the machine's clock, but a jump only once it has lasted a day.

Reads refuse an expired file by the machine's clock at once, which is undone when the clock is corrected. A deletion
cannot be undone: it uses this clock, and so do uploads in parts.
"""

import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta

logger = logging.getLogger(__name__)

TOLERANCE = timedelta(minutes=5)
"""Steps up to this are followed at once: NTP makes them."""
PAUSE = timedelta(hours=1)
"""The same between two runs of the service: how long it was stopped is unknown."""
PROBATION_S = 25 * 3600.0
"""How long a jump must last, with the service running, before it is followed."""


class SettledClock:
    """The machine's clock, but a jump of it is followed only once it has lasted PROBATION_S. Thread-safe.

    `now` gives aware UTC datetimes, `steady_s` monotonic seconds. `settled_at` and `unsettled_s` are the `state` that
    an earlier run stored; None and 0 if there was none.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        steady_s: Callable[[], float],
        settled_at: datetime | None = None,
        unsettled_s: float = 0.0,
    ) -> None:
        """Starts at the machine's time; at `settled_at` if they differ by more than PAUSE, which is logged."""
        self._now = now
        self._steady_s = steady_s
        self._seen_s = steady_s()
        self._lock = threading.Lock()
        wall = now()
        pause = timedelta(0) if settled_at is None else wall - settled_at
        self._time = wall if settled_at is None or abs(pause) <= PAUSE else settled_at
        self._unsettled_s = 0.0 if self._time == wall else unsettled_s
        if self._time != wall:
            logger.info("clock differs from the last run gap_s=%.0f: deletions by time wait", pause.total_seconds())

    def now(self) -> datetime:
        """The settled time: the machine's, or after a jump the time before it plus the monotonic seconds since.

        Each call advances the clock's own state, and logs a jump when it is first seen and when it is accepted.
        """
        with self._lock:
            seen_s = self._steady_s()
            passed_s = max(0.0, seen_s - self._seen_s)
            self._seen_s = seen_s
            wall, self._time = self._now(), self._time + timedelta(seconds=passed_s)
            gap = wall - self._time
            if abs(gap) <= TOLERANCE:
                self._time, self._unsettled_s = wall, 0.0
                return wall
            if self._unsettled_s == 0.0:
                logger.warning("clock jumped by_s=%.0f: deletions by time wait", gap.total_seconds())
            self._unsettled_s += max(passed_s, 1e-6)
            if self._unsettled_s >= PROBATION_S:
                logger.warning("clock jump accepted gap_s=%.0f", gap.total_seconds())
                self._time, self._unsettled_s = wall, 0.0
            return self._time

    def state(self) -> tuple[datetime, float]:
        """The settled time, and for how many seconds a jump has lasted (0.0: none), for the next run to start from."""
        time = self.now()
        with self._lock:
            return time, self._unsettled_s
