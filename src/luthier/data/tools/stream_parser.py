"""Parses a model's answer as it is streamed, in the form of `prompt_format`: text, or calls with pieces of arguments.

`service/inference/answer_reader.py` feeds it.
"""

import json
from dataclasses import dataclass
from enum import Enum, auto

from luthier.data.tools.prompt_format import BEFORE_ARGUMENTS, HEAD, TAIL


@dataclass(frozen=True, slots=True)
class TextPiece:
    """A piece of an answer in words."""

    text: str


@dataclass(frozen=True, slots=True)
class CallStart:
    """The beginning of the `place`-th call of the answer, counted from 0, to the function of that name."""

    place: int
    name: str


@dataclass(frozen=True, slots=True)
class ArgumentsPiece:
    """A further piece of the arguments of call `place`; all pieces joined are its JSON."""

    place: int
    text: str


Piece = TextPiece | CallStart | ArgumentsPiece


class _State(Enum):
    """What the text at hand is part of: not known yet, words, the mark before a call, a name, or arguments."""

    START = auto()
    TEXT = auto()
    HEAD = auto()
    NAME = auto()
    ARGUMENTS = auto()


class ToolCallParser:
    """The parser of one answer, which is words or calls: it is calls if it begins as one (see `answer_grammar`).

    Text that might still become a mark is held back until it is known; `finish` gives it out.
    """

    def __init__(self) -> None:
        self._at = _State.START
        self._held = ""
        self._place = -1

    @property
    def called(self) -> bool:
        """Whether the answer has begun to call a function."""
        return self._place >= 0

    def feed(self, text: str) -> list[Piece]:
        """Takes the next text of the answer and returns the pieces that are certain by now, perhaps none."""
        self._held += text
        pieces: list[Piece] = []
        while (piece := self._next()) is not None:
            pieces += piece
        return pieces

    def finish(self) -> list[Piece]:
        """The pieces held back at the end of an answer that was cut off within a mark; call it once, last.

        A call whose name is not complete is dropped.
        """
        pending, self._held = self._held, ""
        match self._at:
            case _State.START | _State.TEXT if pending:
                return [TextPiece(pending)]
            case _State.ARGUMENTS if pending:
                return [ArgumentsPiece(self._place, _without_partial_tail(pending))]
        return []

    def _next(self) -> list[Piece] | None:
        """One step in the text at hand: the pieces that it gave, perhaps none, or None where more text is needed."""
        match self._at:
            case _State.START:
                return self._start()
            case _State.TEXT:
                text, self._held = self._held, ""
                return [TextPiece(text)] if text else None
            case _State.HEAD:  # there is a newline between calls
                position = self._held.find(HEAD)
                if position < 0:
                    return None
                self._at, self._held = _State.NAME, self._held[position + len(HEAD) :]
                return []
            case _State.NAME:
                name, mark, remainder = self._held.partition(BEFORE_ARGUMENTS)
                if not mark:
                    return None
                self._at, self._held, self._place = _State.ARGUMENTS, remainder, self._place + 1
                return [CallStart(self._place, str(json.loads(name)))]
            case _State.ARGUMENTS:
                return self._arguments()

    def _start(self) -> list[Piece] | None:
        """Decides by its beginning whether the answer is words or calls; None while both are possible."""
        if self._held.startswith(HEAD):
            self._at = _State.HEAD
        elif HEAD.startswith(self._held):
            return None
        else:
            self._at = _State.TEXT
        return []

    def _arguments(self) -> list[Piece] | None:
        """The arguments up to the end mark, or as far as it cannot have begun; None where nothing is certain yet."""
        # Within JSON no raw newline precedes a tag: TAIL cannot be part of the arguments.
        text, mark, remainder = self._held.partition(TAIL)
        if mark:
            self._at, self._held = _State.HEAD, remainder
            return [ArgumentsPiece(self._place, text)] if text else []
        ready = _without_partial_tail(self._held)
        self._held = self._held[len(ready) :]
        return [ArgumentsPiece(self._place, ready)] if ready else None


def _without_partial_tail(text: str) -> str:
    """The text without an end that may be the beginning of TAIL."""
    for length in range(min(len(TAIL) - 1, len(text)), 0, -1):
        if TAIL.startswith(text[-length:]):
            return text[:-length]
    return text
