"""Answers by the version of their content: computed once, and no more of them than fit."""

from luthier.service.job_views.answer_cache import AnswerCache


def test_answer_is_computed_once_for_a_version() -> None:
    cache, computed = AnswerCache(), []

    def compute() -> bytes:
        computed.append(1)
        return b"answer"

    assert [cache.get("one", compute) for _ in range(3)] == [b"answer"] * 3
    assert len(computed) == 1


def test_answer_that_was_not_asked_for_longest_leaves_first() -> None:
    cache = AnswerCache(max_bytes=30)
    for version in ("one", "two", "three"):
        cache.get(version, lambda: bytes(10))
    cache.get("one", lambda: b"")
    cache.get("four", lambda: bytes(10))
    assert cache.size_bytes == 30
    assert len(cache.get("one", lambda: b"")) == 10
    assert cache.get("two", lambda: b"again") == b"again"


def test_answer_larger_than_the_cache_is_given_and_not_kept() -> None:
    cache = AnswerCache(max_bytes=30)
    assert len(cache.get("large", lambda: bytes(31))) == 31
    assert cache.size_bytes == 0
