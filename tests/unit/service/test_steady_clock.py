"""The clock for deletions: steps are followed, jumps only after a day."""

from datetime import UTC, datetime, timedelta

import pytest

from luthier.service.steady_clock import PROBATION_S, SettledClock

START = datetime(2026, 11, 28, tzinfo=UTC)
DAY = timedelta(days=1)


class Hands:
    def __init__(self) -> None:
        self.wall, self.seconds = START, 0.0

    def passes(self, seconds: float) -> None:
        self.wall, self.seconds = self.wall + timedelta(seconds=seconds), self.seconds + seconds

    def clock(self, settled_at: datetime | None = None, unsettled_s: float = 0.0) -> SettledClock:
        return SettledClock(lambda: self.wall, lambda: self.seconds, settled_at, unsettled_s)


def test_clock_follows_small_steps_at_once() -> None:
    hands = Hands()
    clock = hands.clock()
    for step in (60, -120, 200):
        hands.wall += timedelta(seconds=step)
        hands.passes(10)
        assert clock.now() == hands.wall


@pytest.mark.parametrize("jump", [DAY, -DAY, 20 * DAY])
def test_clock_ignores_a_jump_that_is_undone(jump: timedelta) -> None:
    hands = Hands()
    clock = hands.clock()
    hands.wall += jump
    for minute in range(1, 24 * 60):
        hands.passes(60)
        assert clock.now() == START + timedelta(minutes=minute)
    hands.wall -= jump
    assert clock.now() == hands.wall


def test_clock_follows_a_lasting_jump_across_restarts() -> None:
    hands = Hands()
    clock = hands.clock()
    hands.wall += 20 * DAY
    hands.passes(PROBATION_S / 2)
    state = clock.state()
    assert state[0] == hands.wall - 20 * DAY
    hands.seconds = 5.0  # the machine was started anew
    clock = hands.clock(*state)
    hands.passes(PROBATION_S / 2 - 1)
    assert clock.now() < hands.wall - DAY
    hands.passes(2)
    assert clock.now() == hands.wall


def test_clock_counts_a_short_pause_of_the_service_and_distrusts_a_long_one() -> None:
    hands = Hands()
    assert hands.clock(START - timedelta(minutes=59)).now() == START
    assert hands.clock(START - 3 * DAY).now() == START - 3 * DAY
