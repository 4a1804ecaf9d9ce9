"""Limits the log lines that peers can cause to a few a minute; `listening.limit_logs` installs it."""

import logging
import time
from collections.abc import Callable

LINES = 5
PERIOD_S = 60.0
MAX_TEMPLATES = 1000


class LogLimit(logging.Filter):
    """A filter that passes LINES lines of each message template in PERIOD_S seconds.

    The first line of the next period says how many were dropped. `clock` gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._periods: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged. Counts it, and may append the number of dropped lines to its message."""
        now, template = self._clock(), str(record.msg)[:200]
        started, count = self._periods.get(template, (now, 0))
        if now - started >= PERIOD_S:
            if count > LINES:
                record.msg = f"{record.msg} (and {count - LINES} times more in the minute before)"
            started, count = now, 0
        if len(self._periods) >= MAX_TEMPLATES and template not in self._periods:
            self._periods.clear()
        self._periods[template] = (started, count + 1)
        return count < LINES
