"""Requests and tokens per minute, to the second: the clock is the test's."""

from datetime import UTC, datetime, timedelta

import pytest

from luthier.core.errors import RateLimited
from luthier.service.tenants.rate_limits import Limit, RateLimits, estimate

START = datetime(2026, 11, 22, tzinfo=UTC)


def at(second: float) -> datetime:
    return START + timedelta(seconds=second)


@pytest.mark.parametrize(("tokens", "requests"), [(1000, 6), (10_000, 60), (1_000_000, 6000), (100, 1)])
def test_six_requests_for_each_thousand_tokens(tokens: int, requests: int) -> None:
    assert Limit(tokens).requests == requests


def test_request_over_the_count_is_refused_until_the_oldest_has_left() -> None:
    limits = RateLimits()
    for second in range(6):
        limits.admit("a", Limit(1000), 1, at(second))
    with pytest.raises(RateLimited) as caught:
        limits.admit("a", Limit(1000), 1, at(10))
    assert caught.value.retry_after_s == 50
    assert "6 requests per minute" in caught.value.message
    with pytest.raises(RateLimited):
        limits.admit("a", Limit(1000), 1, at(59.9))
    limits.admit("a", Limit(1000), 1, at(60))
    limits.admit("b", Limit(1000), 1, at(10))


def test_clock_set_back_a_day_locks_nobody_out() -> None:
    limits = RateLimits()
    for second in (0, 86400, 86401, 86402, 86403, 86404, 86405):
        limits.admit("a", Limit(1000), 1, at(second))
    limits.admit("a", Limit(1000), 1, at(10))
    assert limits.remaining("a", Limit(1000), at(11)).requests == 5


def test_tokens_are_counted_as_estimated_and_corrected_by_what_was_used() -> None:
    limits = RateLimits()
    first = limits.admit("a", Limit(1000), 900, at(0))
    second = limits.admit("a", Limit(1000), 900, at(1))
    with pytest.raises(RateLimited) as caught:
        limits.admit("a", Limit(1000), 1, at(2))
    assert caught.value.retry_after_s == 58
    limits.correct(first, 50)
    limits.correct(second, 60)
    assert limits.remaining("a", Limit(1000), at(3)).tokens == 890
    limits.admit("a", Limit(1000), 1, at(3))


def test_wait_is_until_enough_tokens_have_left() -> None:
    limits = RateLimits()
    for second, tokens in enumerate((10, 400, 700)):
        limits.admit("a", Limit(1000), tokens, at(second))
    with pytest.raises(RateLimited) as caught:
        limits.admit("a", Limit(1000), 1, at(3))
    assert caught.value.retry_after_s == 58  # without the first there are still 1,100
    with pytest.raises(RateLimited):
        limits.admit("a", Limit(1000), 1, at(60.5))
    limits.admit("a", Limit(1000), 1, at(61))


def test_single_request_may_be_larger_than_the_limit() -> None:
    limits = RateLimits()
    limits.admit("a", Limit(1000), 5000, at(0))
    with pytest.raises(RateLimited):
        limits.admit("a", Limit(1000), 1, at(1))


def test_remaining_reports_the_rest_and_the_reset_time() -> None:
    limits = RateLimits()
    late = limits.admit("a", Limit(1000), 300, at(0))
    limits.admit("a", Limit(1000), 200, at(20))
    standing = limits.remaining("a", Limit(1000), at(30))
    assert (standing.requests, standing.tokens, standing.reset_s) == (4, 500, 50)
    assert limits.remaining("a", Limit(1000), at(70)).tokens == 800
    limits.correct(late, 0)  # an answer that took longer than a minute has left the count already
    assert limits.remaining("a", Limit(1000), at(70)).tokens == 800
    gone = limits.remaining("a", Limit(1000), at(80))
    assert (gone.requests, gone.tokens, gone.reset_s) == (6, 1000, 0)


def test_estimate_is_the_prompt_and_the_most_of_each_answer() -> None:
    assert estimate(characters=9, token_ids=2, max_tokens=10, answers=3) == 3 + 2 + 30
    assert estimate(characters=8, token_ids=0, max_tokens=None, answers=3) == 2
