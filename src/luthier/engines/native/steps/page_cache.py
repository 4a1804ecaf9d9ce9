"""The KV cache's pages: which are free, which sequences share, and which still hold a prefix that may come again.

A whole page is shared as it is. Of a page whose tokens agree only at its beginning, that beginning can be copied.
"""

import hashlib
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from luthier.engines.native.decoder.library import PAGE

Key = bytes
"""Names a prefix that ends where a page does: a cache scope, an adapter, and all tokens up to there."""


def root_key(scope: str) -> Key:
    """The key of the empty prefix. `scope` names who may share what begins there, and the adapter that computes it."""
    return hashlib.blake2b(scope.encode(), digest_size=16).digest()


def keys_of(root: Key, tokens: "np.ndarray[Any, np.dtype[np.int32]]") -> Iterator[Key]:
    """The key of each whole page of a sequence."""
    key = root
    for start in range(0, len(tokens) - PAGE + 1, PAGE):
        key = hashlib.blake2b(key + tokens[start : start + PAGE].tobytes(), digest_size=16).digest()
        yield key


def common_length(some: "np.ndarray[Any, np.dtype[np.int32]]", others: "np.ndarray[Any, np.dtype[np.int32]]") -> int:
    """How many tokens at their beginnings are equal."""
    n = min(len(some), len(others))
    (differing,) = np.nonzero(some[:n] != others[:n])
    return int(differing[0]) if len(differing) else n


class PageCache:
    """The pages of the KV cache by number, with how many sequences use each. For the decoder's thread alone.

    One that nobody uses any more keeps its content until the room is needed.
    """

    def __init__(self, n_pages: int) -> None:
        """All `n_pages` pages are free."""
        self._free = list(range(n_pages))
        self._users = [0] * n_pages
        self._key_of: dict[int, Key] = {}
        self._by_key: dict[Key, int] = {}
        self._content: dict[int, tuple[Key, np.ndarray[Any, np.dtype[np.int32]]]] = {}
        self._behind: defaultdict[Key, set[int]] = defaultdict(set)
        self._unused: OrderedDict[int, None] = OrderedDict()  # those with content, least recently used first

    @property
    def available(self) -> int:
        """Pages that can be allocated now: free ones, and those that only keep content."""
        return len(self._free) + len(self._unused)

    def share(self, keys: Sequence[Key]) -> list[int]:
        """The pages that hold the longest prefix of these keys, each used once more now; empty if there is none."""
        pages: list[int] = []
        for key in keys:
            page = self._by_key.get(key)
            if page is None:
                break
            pages.append(page)
        for page in pages:
            self._unused.pop(page, None)
            self._users[page] += 1
        return pages

    def find_beginning(self, parent: Key, tokens: "np.ndarray[Any, np.dtype[np.int32]]") -> tuple[int, int]:
        """The page behind `parent` that agrees with the most of these tokens, and with how many; (-1, 0) if none."""
        found = ((common_length(self._content[page][1], tokens), page) for page in self._behind.get(parent, ()))
        n, page = max(found, default=(0, -1))
        return (page, n) if n else (-1, 0)

    def allocate(self, n: int) -> list[int]:
        """So many pages for one user, the content of least recently used ones forgotten if need be.

        Not more than `available`: the caller asks first.
        """
        assert n <= self.available
        pages = [self._free.pop() if self._free else self._evict() for _ in range(n)]
        for page in pages:
            self._users[page] = 1
        return pages

    def note_content(self, page: int, parent: Key, tokens: "np.ndarray[Any, np.dtype[np.int32]]") -> None:
        """Says which tokens behind the prefix `parent` a page holds by now, from its first position on."""
        self._content[page] = parent, tokens.copy()
        self._behind[parent].add(page)

    def publish(self, page: int, key: Key) -> None:
        """Names a page that is whole. Of two pages with the same content the first is shared."""
        if key not in self._by_key and page not in self._key_of:
            self._by_key[key], self._key_of[page] = page, key

    def release(self, pages: Sequence[int], is_next_evicted: bool = False) -> None:
        """Ends one use of each page; without any use it is kept if its content was published, else free.

        One that `is_next_evicted` is kept only as long as nobody needs the room: what others have used stays.
        """
        for page in reversed(pages):  # a prefix is kept longer than what follows it
            self._users[page] -= 1
            if self._users[page]:
                continue
            if page in self._key_of or page in self._content:
                self._unused[page] = None
                if is_next_evicted:
                    self._unused.move_to_end(page, last=False)
            else:
                self._free.append(page)

    def _evict(self) -> int:
        """Forgets the content of the page that was released first, and returns its number."""
        page, _ = self._unused.popitem(last=False)
        if (key := self._key_of.pop(page, None)) is not None:
            del self._by_key[key]
        if page in self._content:
            parent, _ = self._content.pop(page)
            self._behind[parent].discard(page)
            if not self._behind[parent]:
                del self._behind[parent]
        return page
