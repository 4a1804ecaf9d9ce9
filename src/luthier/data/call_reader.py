"""Reads an answer in pieces, as a model writes it in the form of `tool_prompt`: text, or calls as they come."""

import json
from dataclasses import dataclass
from enum import Enum, auto

from luthier.data.tool_prompt import BEFORE_ARGUMENTS, HEAD, TAIL


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of an answer in words."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegins:
    """The `place`-th call of the answer, from 0, to the function of that name."""

    place: int
    name: str


@dataclass(frozen=True, slots=True)
class Arguments:
    """A further piece of that call's arguments, which are JSON once they are whole."""

    place: int
    text: str


Piece = Text | CallBegins | Arguments


class _At(Enum):
    START = auto()
    TEXT = auto()
    HEAD = auto()
    NAME = auto()
    ARGUMENTS = auto()


class CallReader:
    """One answer's reader. An answer is words or calls: it is calls if it begins as one (see `tool_grammar`).

    What might still become a mark is held back until it is known; `finish` gives it out.
    """

    def __init__(self) -> None:
        self._at = _At.START
        self._held = ""
        self._place = -1

    @property
    def called(self) -> bool:
        """Whether the answer has begun to call a function."""
        return self._place >= 0

    def feed(self, text: str) -> list[Piece]:
        self._held += text
        pieces: list[Piece] = []
        while (piece := self._next()) is not None:
            pieces += piece
        return pieces

    def finish(self) -> list[Piece]:
        """What was held back of an answer that was cut off within a mark; a call without a name is none."""
        held, self._held = self._held, ""
        match self._at:
            case _At.START | _At.TEXT if held:
                return [Text(held)]
            case _At.ARGUMENTS if held:
                return [Arguments(self._place, _before_mark(held))]
        return []

    def _next(self) -> list[Piece] | None:
        """One step: the pieces that it gave, or None where more text is needed."""
        match self._at:
            case _At.START:
                return self._start()
            case _At.TEXT:
                text, self._held = self._held, ""
                return [Text(text)] if text else None
            case _At.HEAD:  # between calls stands a newline
                place = self._held.find(HEAD)
                if place < 0:
                    return None
                self._at, self._held = _At.NAME, self._held[place + len(HEAD) :]
                return []
            case _At.NAME:
                name, mark, rest = self._held.partition(BEFORE_ARGUMENTS)
                if not mark:
                    return None
                self._at, self._held, self._place = _At.ARGUMENTS, rest, self._place + 1
                return [CallBegins(self._place, str(json.loads(name)))]
            case _At.ARGUMENTS:
                return self._arguments()

    def _start(self) -> list[Piece] | None:
        if self._held.startswith(HEAD):
            self._at = _At.HEAD
        elif HEAD.startswith(self._held):
            return None
        else:
            self._at = _At.TEXT
        return []

    def _arguments(self) -> list[Piece] | None:
        # Within JSON no raw newline stands before a tag: TAIL cannot be part of the arguments.
        text, mark, rest = self._held.partition(TAIL)
        if mark:
            self._at, self._held = _At.HEAD, rest
            return [Arguments(self._place, text)] if text else []
        ready = _before_mark(self._held)
        self._held = self._held[len(ready) :]
        return [Arguments(self._place, ready)] if ready else None


def _before_mark(text: str) -> str:
    """The text without an end that may be the beginning of TAIL."""
    for length in range(min(len(TAIL) - 1, len(text)), 0, -1):
        if TAIL.startswith(text[-length:]):
            return text[:-length]
    return text
