"""Polling what another process or thread does."""

import time
from collections.abc import Callable


def until(condition: Callable[[], object], within_s: float = 120.0, every_s: float = 0.02) -> float:
    """Polls until the condition holds; returns the seconds that it took. Fails when the time is over."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within_s, f"not so within {within_s} s"
        time.sleep(every_s)
    return time.monotonic() - began
