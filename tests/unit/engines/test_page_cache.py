"""Pages of the KV cache: shared by prefix, forgotten oldest first, and never lost or given out twice."""

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from luthier.engines.native.decoder.library import PAGE
from luthier.engines.native.steps import page_cache
from luthier.engines.native.steps.page_cache import Key, PageCache


def keys(n_tokens: int, scope: str = "scope", changed: int | None = None) -> list[Key]:
    tokens = np.arange(n_tokens, dtype=np.int32)
    if changed is not None:
        tokens[changed] += 1
    return list(page_cache.keys_of(page_cache.root_key(scope), tokens))


def filled(cache: PageCache, names: list[Key]) -> list[int]:
    """Pages that one user has computed and left."""
    own = cache.allocate(len(names))
    for page, key in zip(own, names, strict=True):
        cache.publish(page, key)
    cache.release(own)
    return own


def test_only_whole_pages_have_keys() -> None:
    assert [len(keys(n)) for n in (0, PAGE - 1, PAGE, 2 * PAGE - 1, 2 * PAGE)] == [0, 0, 1, 1, 2]


def test_key_of_a_longer_text_is_that_of_its_beginning() -> None:
    assert keys(3 * PAGE)[:2] == keys(2 * PAGE + 5)


def test_keys_differ_by_scope() -> None:
    assert not set(keys(3 * PAGE, "one")) & set(keys(3 * PAGE, "another"))


@pytest.mark.parametrize("place", range(0, 3 * PAGE, 7))
def test_keys_differ_from_the_page_on_that_holds_another_token(place: int) -> None:
    same = [a == b for a, b in zip(keys(3 * PAGE), keys(3 * PAGE, changed=place), strict=True)]
    assert same == [number < place // PAGE for number in range(3)]


def test_published_pages_are_shared_while_in_use_and_after() -> None:
    cache, names = PageCache(4), keys(2 * PAGE)
    own = cache.allocate(2)
    assert cache.share(names) == []
    for page, key in zip(own, names, strict=True):
        cache.publish(page, key)
    assert cache.share(names) == own
    assert cache.available == 2
    cache.release(own)
    assert cache.available == 2, "the second user has them yet"
    cache.release(own)
    assert cache.available == 4
    assert cache.share(names) == own


def test_prefix_is_shared_as_far_as_it_is_there() -> None:
    cache, names = PageCache(4), keys(4 * PAGE)
    own = filled(cache, names[:2])
    assert cache.share(names) == own
    cache.release(own)
    assert cache.share(keys(4 * PAGE, changed=PAGE)) == own[:1]
    assert cache.share(keys(4 * PAGE, changed=0)) == []


def test_page_that_was_not_published_is_shared_with_nobody() -> None:
    cache = PageCache(2)
    cache.release(cache.allocate(2))
    assert cache.share(keys(2 * PAGE)) == []
    assert sorted(cache.allocate(2)) == [0, 1]


def test_of_two_pages_with_the_same_content_the_first_is_shared() -> None:
    cache, names = PageCache(2), keys(PAGE)
    first, second = cache.allocate(2)
    cache.publish(first, names[0])
    cache.publish(second, names[0])
    cache.release([first, second])
    assert cache.share(names) == [first]
    assert cache.allocate(1) == [second]


def test_free_pages_are_taken_before_any_content_is_forgotten() -> None:
    cache, names = PageCache(4), keys(2 * PAGE)
    own = filled(cache, names)
    assert not set(cache.allocate(2)) & set(own)
    assert cache.share(names) == own


def test_content_that_was_used_last_is_forgotten_last_and_a_prefix_after_what_follows_it() -> None:
    cache = PageCache(6)
    old, new = keys(3 * PAGE, "old"), keys(3 * PAGE, "new")
    of_old = filled(cache, old)
    of_new = filled(cache, new)
    cache.release(cache.share(old))
    order = [*reversed(of_new), *reversed(of_old)]
    assert [cache.allocate(1)[0] for _ in range(6)] == order


def test_page_that_is_taken_for_another_use_no_longer_holds_its_content() -> None:
    cache, names = PageCache(2), keys(2 * PAGE)
    own = filled(cache, names)
    taken = cache.allocate(1)
    assert taken == own[1:]
    assert cache.share(names) == own[:1]
    cache.publish(taken[0], names[1])
    assert cache.share(names) == own


@pytest.mark.parametrize("seed", range(20))
def test_no_page_is_lost_or_has_two_owners_whatever_is_done(seed: int) -> None:
    random_ = random.Random(seed)
    n_pages = random_.choice([3, 8, 17])
    cache = PageCache(n_pages)
    texts = [keys(PAGE * random_.randint(1, 6), f"text {number % 3}") for number in range(5)]
    owned: list[tuple[list[int], int, list[Key]]] = []  # pages, how many of them are shared, and the text's keys
    content: dict[int, Key] = {}
    for _ in range(600):
        if owned and random_.random() < 0.45:
            held, n_shared, names = owned.pop(random_.randrange(len(owned)))
            for page, key in list(zip(held, names, strict=True))[n_shared:]:
                if random_.random() < 0.7:
                    cache.publish(page, key)
                    content[page] = key
            cache.release(held)
        else:
            names = random_.choice(texts)
            shared = cache.share(names)
            assert [content[page] for page in shared] == names[: len(shared)]
            if len(names) - len(shared) > cache.available:
                cache.release(shared)
                continue
            new = cache.allocate(len(names) - len(shared))
            in_use = {page for held, *_ in owned for page in held}
            assert len(set(new)) == len(new)
            assert not in_use.union(shared) & set(new)
            for page in new:
                content.pop(page, None)
            owned.append(([*shared, *new], len(shared), names))
        used = Counter(page for held, *_ in owned for page in held)
        assert cache.available == n_pages - len(used)
    for held, *_ in owned:
        cache.release(held)
    assert sorted(cache.allocate(n_pages)) == list(range(n_pages))


def tokens(*ids: int) -> "np.ndarray[Any, np.dtype[np.int32]]":
    return np.array(ids, np.int32)


def test_the_page_that_agrees_with_the_most_tokens_is_found() -> None:
    cache = PageCache(4)
    one, another, elsewhere = cache.allocate(3)
    cache.note_content(one, b"parent", tokens(1, 2, 9, 9))
    cache.note_content(another, b"parent", tokens(1, 2, 3, 9))
    cache.note_content(elsewhere, b"other", tokens(1, 2, 3, 4))
    assert cache.find_beginning(b"parent", tokens(1, 2, 3, 4)) == (another, 3)
    assert cache.find_beginning(b"parent", tokens(1, 2)) in ((one, 2), (another, 2))
    assert cache.find_beginning(b"parent", tokens(7, 2)) == (-1, 0)
    assert cache.find_beginning(b"nobody", tokens(1, 2)) == (-1, 0)


def test_the_beginning_of_a_page_outlives_its_user_until_the_room_is_needed() -> None:
    cache = PageCache(2)
    (page,) = cache.allocate(1)
    cache.note_content(page, b"parent", tokens(1, 2))
    cache.note_content(page, b"parent", tokens(1, 2, 3))
    cache.release([page])
    assert cache.available == 2
    assert cache.find_beginning(b"parent", tokens(1, 2, 3)) == (page, 3)
    both = cache.allocate(2)
    assert sorted(both) == [0, 1]
    assert cache.find_beginning(b"parent", tokens(1, 2, 3)) == (-1, 0)
    cache.release(both)
    assert cache.available == 2


@pytest.mark.parametrize(
    ("some", "others", "n"), [((), (1,), 0), ((1,), (1, 2), 1), ((1, 2, 3), (1, 5, 3), 1), ((4,), (5,), 0)]
)
def test_common_length_counts_up_to_the_first_difference(some: Any, others: Any, n: int) -> None:
    assert page_cache.common_length(tokens(*some), tokens(*others)) == n


def test_pages_of_the_background_are_forgotten_before_any_other() -> None:
    cache = PageCache(4)
    live, batch = keys(2 * PAGE, "live"), keys(2 * PAGE, "batch")
    filled(cache, live)
    own = cache.allocate(2)
    for page, key in zip(own, batch, strict=True):
        cache.publish(page, key)
    cache.release(own, is_next_evicted=True)
    cache.allocate(2)
    assert len(cache.share(live)) == 2
    assert cache.share(batch) == []
