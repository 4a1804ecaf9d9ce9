"""When a delivery that has failed is tried again: Standard Webhooks' schedule, which ends after 72 hours."""

from datetime import datetime, timedelta

GIVE_UP_AFTER = timedelta(hours=72)
"""As OpenAI."""
_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""After the first attempt, after the second ..."""
_JITTER = 0.1
"""Deliveries that failed together come apart by up to this share of the wait."""
MAX_RETRY_AFTER_S = 86_400.0
"""The longest wait that a receiver may ask for."""


def next_attempt(
    first: datetime, now: datetime, settled: datetime, attempts: int, chance: float, retry_after_s: float
) -> datetime | None:
    """When to try again after so many attempts, the last of them at `now`; None to give up.

    The 72 hours begin with the `first` attempt, and the last one is at their end. `chance` is from 0 to 1,
    `retry_after_s` what the receiver has asked for, 0 for nothing. `settled` is a clock that no jump sets ahead: the
    time is over by it alone.
    """
    end = first + GIVE_UP_AFTER
    if settled >= end:
        return None
    seconds = _SECONDS[min(attempts, len(_SECONDS)) - 1] * (1 + _JITTER * (2 * chance - 1))
    at = now + timedelta(seconds=max(seconds, min(retry_after_s, MAX_RETRY_AFTER_S)))
    return min(at, end) if now < end else at
