"""Matches an answer against its grammar while it is streamed, a piece at a time.

`service/inference/answer_reader.py` uses it on top of the engine's own constraint.
"""

import llguidance

_SLICE_BYTES = 64
"""A call into the library holds the interpreter's lock: so many bytes take a few milliseconds at the most."""


class Matcher:
    """The state of one answer in its grammar; not to be shared between answers."""

    def __init__(self, matcher: llguidance.LLMatcher) -> None:
        self._matcher = matcher

    def accepts(self, text: str) -> bool:
        """Takes the next text; whether the answer so far is the beginning of one that the grammar allows.

        After False the state is that of a broken answer.
        """
        data = text.encode("utf-8", "replace")
        for start in range(0, len(data), _SLICE_BYTES):
            piece = list(data[start : start + _SLICE_BYTES])
            if self._matcher.try_consume_tokens(piece) < len(piece):
                return False
        return not self._matcher.is_error()

    def is_complete(self) -> bool:
        """Whether the answer may end here."""
        return bool(self._matcher.is_accepting())
