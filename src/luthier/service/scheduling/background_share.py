"""How much of an engine's slots and context answers in the background may hold: those that nobody waits for."""

from luthier.core.engine_ports import Capacity


class BackgroundShare:
    """Half of an engine while no live answer is in progress, a quarter beside one; a slot is kept free for the next.

    An answer that is too long for its share gets the engine if it is idle. Not for several threads.
    """

    def __init__(self, capacity: Capacity) -> None:
        self._capacity = capacity
        self._n = 0
        self._tokens = 0

    def admits(self, tokens: int, has_live: bool) -> bool:
        """Whether one more answer of so many tokens of context may begin; `has_live`: beside live ones."""
        divisor = 4 if has_live else 2
        slots = self._capacity.slots // divisor
        if not self._n:
            return not has_live or (slots > 0 and tokens <= self._capacity.context_tokens // divisor)
        return self._n < slots and self._tokens + tokens <= self._capacity.context_tokens // divisor

    def add(self, tokens: int) -> None:
        """Counts an answer that begins."""
        self._n += 1
        self._tokens += tokens

    def remove(self, tokens: int) -> None:
        """Counts the end of one that was added with so many tokens."""
        self._n -= 1
        self._tokens -= tokens
