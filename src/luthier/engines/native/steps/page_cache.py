"""The KV cache's pages: which are free, which sequences share, and which still hold a prefix that may come again."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from luthier.engines.native.decoder.library import PAGE

Key = bytes
"""Names what a page holds: a cache scope, an adapter, and all tokens up to the page's end."""


def keys_of(scope: str, tokens: "np.ndarray[Any, np.dtype[np.int32]]") -> Iterator[Key]:
    """The key of each whole page of a sequence, a hash of all tokens up to its end.

    `scope` names who may share it, and the adapter that computes it.
    """
    key = hashlib.blake2b(scope.encode(), digest_size=16).digest()
    for start in range(0, len(tokens) - PAGE + 1, PAGE):
        key = hashlib.blake2b(key + tokens[start : start + PAGE].tobytes(), digest_size=16).digest()
        yield key


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

    def allocate(self, n: int) -> list[int]:
        """So many pages for one user, the content of least recently used ones forgotten if need be.

        Not more than `available`: the caller asks first.
        """
        assert n <= self.available
        pages = [self._free.pop() if self._free else self._evict() for _ in range(n)]
        for page in pages:
            self._users[page] = 1
        return pages

    def publish(self, page: int, key: Key) -> None:
        """Says what a page holds, once it is computed. Of two pages with the same content the first is shared."""
        if key not in self._by_key and page not in self._key_of:
            self._by_key[key], self._key_of[page] = page, key

    def release(self, pages: Sequence[int]) -> None:
        """Ends one use of each page; without any use it is kept if its content was published, else free."""
        for page in reversed(pages):  # a prefix is kept longer than what follows it
            self._users[page] -= 1
            if self._users[page]:
                continue
            if page in self._key_of:
                self._unused[page] = None
            else:
                self._free.append(page)

    def _evict(self) -> int:
        """Forgets the content of the page that was released first, and returns its number."""
        page, _ = self._unused.popitem(last=False)
        del self._by_key[self._key_of.pop(page)]
        return page
