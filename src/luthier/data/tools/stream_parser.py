"""Parses a model's answer as it is streamed, by a form of calls: text, or calls with pieces of arguments.

`service/inference/answer_reader.py` feeds it.
"""

import json
from dataclasses import dataclass
from enum import Enum, auto

from luthier.data.tools.call_form import OURS, CallForm


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

    def __init__(self, form: CallForm = OURS) -> None:
        self._form = form
        self._at = _State.START
        self._held = ""
        self._place = -1
        self._object = _ObjectEnd()

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
        return [TextPiece(pending)] if pending and self._at in (_State.START, _State.TEXT) else []

    def _next(self) -> list[Piece] | None:
        """One step in the text at hand: the pieces that it gave, perhaps none, or None where more text is needed."""
        match self._at:
            case _State.START:
                return self._start()
            case _State.TEXT:
                text, self._held = self._held, ""
                return [TextPiece(text)] if text else None
            case _State.HEAD:  # behind what ends a call and separates it from the next
                position = self._held.find(self._form.head)
                if position < 0:
                    return None
                self._at, self._held = _State.NAME, self._held[position + len(self._form.head) :]
                return []
            case _State.NAME:
                name, mark, remainder = self._held.partition(self._form.before_arguments)
                if not mark:
                    return None
                self._at, self._held, self._place = _State.ARGUMENTS, remainder, self._place + 1
                self._object = _ObjectEnd()
                return [CallStart(self._place, str(json.loads(name)))]
            case _State.ARGUMENTS:
                return self._arguments()

    def _start(self) -> list[Piece] | None:
        """Decides by its beginning whether the answer is words or calls; None while both are possible."""
        if self._held.startswith(self._form.head):
            self._at = _State.HEAD
        elif self._form.head.startswith(self._held):
            return None
        else:
            self._at = _State.TEXT
        return []

    def _arguments(self) -> list[Piece] | None:
        """The arguments at hand, up to the end of their object; None where there is no text."""
        if not self._held:
            return None
        end = self._object.find(self._held)
        text, self._held = (self._held, "") if end is None else (self._held[:end], self._held[end:])
        if end is not None:
            self._at = _State.HEAD
        return [ArgumentsPiece(self._place, text)]


class _ObjectEnd:
    """Where a JSON object ends that comes in pieces: its braces are counted, those within strings are not."""

    def __init__(self) -> None:
        self._depth = 0
        self._is_in_string = self._is_escaped = False

    def find(self, piece: str) -> int | None:
        """The place behind the object's last brace in the next piece; None if it is not in it."""
        for place, letter in enumerate(piece):
            if self._is_in_string:
                self._is_in_string = self._is_escaped or letter != '"'
                self._is_escaped = letter == "\\" and not self._is_escaped
            elif letter == '"':
                self._is_in_string = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    return place + 1
        return None
