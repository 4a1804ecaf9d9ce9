"""Holds an answer against its grammar, a piece at a time."""

import llguidance

_SLICE_BYTES = 64
"""A call into the library holds the interpreter's lock: so many bytes take a few milliseconds at the most."""


class Matcher:
    """One answer's place in its grammar."""

    def __init__(self, matcher: llguidance.LLMatcher) -> None:
        self._matcher = matcher

    def accepts(self, text: str) -> bool:
        """Whether the answer so far, with this text behind it, is the beginning of one that the grammar allows."""
        data = text.encode("utf-8", "replace")
        for start in range(0, len(data), _SLICE_BYTES):
            piece = list(data[start : start + _SLICE_BYTES])
            if self._matcher.try_consume_tokens(piece) < len(piece):
                return False
        return not self._matcher.is_error()

    def is_complete(self) -> bool:
        """Whether the answer may end here."""
        return bool(self._matcher.is_accepting())
