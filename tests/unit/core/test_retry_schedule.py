"""When a webhook's delivery is tried again: Standard Webhooks' schedule, and its end after 72 hours."""

from datetime import UTC, datetime, timedelta

import pytest

from luthier.core.webhooks import retry_schedule

FIRST = datetime(2026, 11, 22, tzinfo=UTC)
HOUR = 3600


def walk(chance: float, retry_after_s: float = 0.0) -> list[float]:
    """The seconds from the first attempt to each further one of a receiver that never accepts."""
    at = FIRST
    found: list[float] = []
    for attempts in range(1, 100):
        following = retry_schedule.next_attempt(FIRST, at, at, attempts, chance, retry_after_s)
        if following is None:
            return found
        assert following > at
        at = following
        found.append((at - FIRST).total_seconds())
    raise AssertionError("it never ends")


def test_attempts_follow_the_schedule_and_the_last_is_at_72_hours() -> None:
    in_hours = [5 / HOUR, 305 / HOUR, 2105 / HOUR]
    for wait in (2, 5, 10, 14, 20):
        in_hours.append(in_hours[-1] + wait)
    assert walk(0.5) == pytest.approx([hours * HOUR for hours in (*in_hours, 72)])


@pytest.mark.parametrize("chance", [0.0, 0.25, 1.0])
def test_jitter_moves_each_attempt_by_a_tenth_at_most(chance: float) -> None:
    pairs = zip(walk(chance)[:8], walk(0.5)[:8], strict=True)
    assert all(abs(one - plain) <= plain / 10 + 1e-6 for one, plain in pairs)
    assert walk(chance)[-1] == 72 * HOUR


def test_what_a_receiver_asks_for_is_waited_for_up_to_a_day() -> None:
    assert walk(0.5, 600.0)[:3] == [600, 1200, 3000]
    assert walk(0.5, 10.0**9) == [24 * HOUR, 48 * HOUR, 72 * HOUR]


def test_clock_that_jumps_ahead_does_not_end_a_delivery() -> None:
    ahead = FIRST + timedelta(days=30)
    assert retry_schedule.next_attempt(FIRST, ahead, FIRST, 1, 0.5, 0.0) == ahead + timedelta(seconds=5)
    assert retry_schedule.next_attempt(FIRST, ahead, ahead, 1, 0.5, 0.0) is None
