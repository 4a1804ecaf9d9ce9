"""Polling what another process or thread does."""

import time
from collections.abc import Callable

PATIENCE = 3.0
"""A test's limit says what is usual on an idle machine; on a busy one it may take so many times as long."""


def until(condition: Callable[[], object], within_s: float = 120.0, every_s: float = 0.02) -> float:
    """Polls until the condition holds; returns the seconds that it took. Fails after PATIENCE times the limit."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s * PATIENCE, f"not so within {within_s * PATIENCE} s"
        time.sleep(every_s)
    return time.monotonic() - began
