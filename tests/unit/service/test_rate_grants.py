"""A rate limit over several processes: never more than the limit together, and few writes for it."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from luthier.core.errors import RateLimited
from luthier.service.tenants.rate_grants import VALID_S, RateGrants
from luthier.service.tenants.rate_limits import Limit, RateLimits
from luthier.store.db import Database, open_database
from luthier.store.process_schema import process_tables
from luthier.store.queries.leasing import database_clock

START = datetime(2026, 11, 22, tzinfo=UTC)
LIMIT = Limit(100_000)
"""600 requests a minute; a chunk of them is 18, of tokens 3,125."""
_grants = process_tables.rate_grants


@dataclass
class Time:
    """One clock for all processes of a test, in seconds."""

    s: float = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.s)


@dataclass
class Process:
    """The limits of one process, and what it has admitted: when, and how many tokens."""

    time: Time
    limits: RateLimits
    asked: int = 0
    admitted: list[tuple[float, int]] = field(default_factory=list)

    def call(self, tokens: int) -> bool:
        """Whether a call is admitted, as the routes ask."""
        now = self.time.now()
        while self.limits.needs_share("a", LIMIT, tokens, now):
            self.asked += 1
            self.limits.get_share("a", LIMIT, tokens, now)
        try:
            self.limits.admit("a", LIMIT, tokens, now)
        except RateLimited:
            return False
        self.admitted.append((self.time.s, tokens))
        return True


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = open_database(tmp_path / "luthier.db")
    yield opened
    opened.close()


@pytest.fixture
def time() -> Time:
    return Time()


def process(database: Database, time: Time, name: str) -> Process:
    return Process(time, RateLimits(grants=RateGrants(database, name, lambda: time.s)))


def most_in_a_minute(processes: list[Process]) -> tuple[int, int]:
    """The most requests, and the most tokens, that all of them admitted together in any 60 s."""
    all_calls = sorted(call for one in processes for call in one.admitted)
    windows = [[tokens for at, tokens in all_calls if end - 60 < at <= end] for end, _ in all_calls]
    return max(map(len, windows)), max(map(sum, windows))


def test_four_processes_together_never_admit_more_than_the_limit_and_write_far_less_than_they_answer(
    database: Database, time: Time
) -> None:
    chance = random.Random(5)
    processes = [process(database, time, name) for name in "abcd"]
    refused = 0
    for step in range(3000):
        time.s = step * 0.06
        one = processes[0 if time.s < 50 else chance.randrange(4)]  # one alone at first, then all alike
        refused += not one.call(chance.randrange(50, 300))
        if step % 33 == 0:
            for each in processes:
                each.limits.adjust_shares(time.now())
    requests, tokens = most_in_a_minute(processes)
    assert requests <= LIMIT.requests
    assert LIMIT.tokens * 3 // 4 < tokens <= LIMIT.tokens + 300
    assert refused > 300
    admitted = sum(len(one.admitted) for one in processes)
    assert sum(one.asked for one in processes) < admitted / 4


def test_process_refuses_at_most_two_chunks_of_each_other_before_the_limit_is_used(
    database: Database, time: Time
) -> None:
    holder, asker = process(database, time, "a"), process(database, time, "b")
    holder.call(100)
    while asker.call(100):
        pass
    requests, _ = most_in_a_minute([holder, asker])
    assert requests >= LIMIT.requests - 2 * (LIMIT.requests // 32)


def test_what_a_process_no_longer_uses_is_another_s(database: Database, time: Time) -> None:
    first, second = process(database, time, "a"), process(database, time, "b")
    while first.call(1000):
        pass
    assert not second.call(1000)
    time.s = 61
    first.limits.adjust_shares(time.now())
    assert second.call(1000)
    with database.reading() as tx:
        assert tx.execute(select(_grants.c.process)).scalars().all() == ["b"]


def test_share_of_a_process_that_has_ended_is_free_once_its_time_is_over(database: Database, time: Time) -> None:
    first, second = process(database, time, "a"), process(database, time, "b")
    while first.call(1000):
        pass
    time.s = 5
    assert not second.call(1000)
    with database.writing() as tx:
        tx.execute(update(_grants).values(expires_at=database_clock.now(tx)))
    time.s = 10
    assert second.call(1000)


def test_process_that_was_paused_admits_nothing_on_its_old_share(database: Database, time: Time) -> None:
    first, second = process(database, time, "a"), process(database, time, "b")
    assert first.call(10)
    time.s = VALID_S + 61
    with database.writing() as tx:
        tx.execute(update(_grants).values(expires_at=database_clock.now(tx)))
    while second.call(1000):
        pass
    assert not first.call(10)


def test_single_request_may_exceed_what_is_left_as_in_one_process(database: Database, time: Time) -> None:
    one = process(database, time, "a")
    assert one.call(LIMIT.tokens * 2)
    assert not one.call(1)


def test_what_an_answer_really_took_is_what_is_kept(database: Database, time: Time) -> None:
    one = RateLimits(grants=RateGrants(database, "a", lambda: time.s))
    one.get_share("a", LIMIT, 50_000, time.now())
    admission = one.admit("a", LIMIT, 50_000, time.now())
    one.correct(admission, 100)
    one.adjust_shares(time.now())
    with database.reading() as tx:
        assert tx.execute(select(func.sum(_grants.c.tokens))).scalar_one() == 100 + LIMIT.tokens // 32
    assert one.remaining("a", LIMIT, time.now()).tokens == LIMIT.tokens - 100
