"""An answer's tokens as text: characters that span tokens, and stop strings, which are never given out."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

LogProbEntry = tuple[int, bytes, float, Sequence[tuple[int, bytes, float]]]
"""A token's id, bytes and log-probability in nats, and the same of the likeliest tokens in its place."""


@dataclass(slots=True)
class Piece:
    """What can be sent to the caller now: text and log-probabilities; whether a stop string ended the answer.

    `log_probs` are LogProbEntry values, none if they are not wanted.
    """

    text: str = ""
    log_probs: list[Any] = field(default_factory=list)
    is_stopped: bool = False


class AnswerText:
    """The text of one answer as it grows. What may be the beginning of a stop string is held back until it is known."""

    def __init__(self, stops: Sequence[str]) -> None:
        """Empty stop strings are ignored."""
        self._stops = [stop for stop in stops if stop]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._entries: list[tuple[int, LogProbEntry]] = []  # with the number of characters before the token
        self._n_before = 0  # characters given out

    def feed(self, data: bytes, entry: LogProbEntry | None) -> Piece:
        """Adds a token's bytes, and its entry if log-probabilities are wanted; returns what can be sent now."""
        if entry is not None:
            self._entries.append((self._n_before + len(self._held), entry))
        self._held += self._decoder.decode(data)
        stop = min((at for at in map(self._held.find, self._stops) if at >= 0), default=-1)
        if stop >= 0:
            return Piece(*self._taken(stop), is_stopped=True)
        return Piece(*self._taken(len(self._held) - self._n_held_back()))

    def finish(self) -> Piece:
        """What was held back, as the answer ends by itself or at its limit; half a character becomes U+FFFD."""
        self._held += self._decoder.decode(b"", final=True)
        stop = min((at for at in map(self._held.find, self._stops) if at >= 0), default=-1)
        return Piece(*self._taken(len(self._held) if stop < 0 else stop, is_end=stop < 0), is_stopped=stop >= 0)

    def _n_held_back(self) -> int:
        """The characters of the longest end of the text that is the beginning of a stop string; 0 for none."""
        longest = max(map(len, self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            end = self._held[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0

    def _taken(self, length: int, is_end: bool = False) -> tuple[str, list[LogProbEntry]]:
        """Takes the first `length` characters out of the held text, with the entries of tokens that begin in them.

        `is_end` adds the entries of tokens at the very end that have no text.
        """
        text, self._held = self._held[:length], self._held[length:]
        self._n_before += length
        n_entries = sum(1 for at, _ in self._entries if at < self._n_before or (is_end and at <= self._n_before))
        taken = [entry for _, entry in self._entries[:n_entries]]
        del self._entries[:n_entries]
        return text, taken
