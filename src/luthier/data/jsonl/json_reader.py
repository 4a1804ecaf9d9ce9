"""One JSON text -> its value and every fault in it, with column and place; stricter than RFC 8259.

Python's decoder reads faultless text; what it refuses or may let pass is read strictly, in one pass, not recursively.
"""

import json
import re
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import NoReturn

from luthier.data.jsonl import json_faults
from luthier.data.jsonl.json_faults import Expected, Fault
from luthier.data.problems import json_path

MAX_DEPTH = 100
"""Arrays and objects within one another. A training row with tools has about ten."""
_SHOWN_DEPTH = 4
MAX_VALUES = 200_000
"""In one row: 64 MiB of brackets would be gigabytes of objects."""
MAX_FAULTS = 100
_MAX_FAST_CHARACTERS = 1 << 20
_MAX_DIGITS = 309
"""A whole number of more digits is beyond a double, which is what most readers make of it."""

_BLANK = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][+-]?[0-9]+)?(?![\w.+-])")
_CONSTANT = re.compile(r"(null|true|false|NaN|-?Infinity)(?!\w)")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_CONSTANTS = {"null": None, "true": True, "false": False}


@dataclass(frozen=True, slots=True)
class ParsedJson:
    """What a text gave. `complete` is False if the last fault ended parsing; then `value` is None, as it is for null.

    The value never holds what the faults name: half surrogates are replaced, numbers without a value are None.
    """

    value: object
    faults: tuple[Fault, ...] = ()
    complete: bool = True


def read(text: str) -> ParsedJson:
    """Reads one JSON value that takes up the whole text; never raises for its content."""
    if (
        len(text) <= _MAX_FAST_CHARACTERS
        and text.count("[") + text.count("{") <= MAX_DEPTH
        and not _SURROGATE.search(text)
    ):
        try:
            return ParsedJson(_FAST_DECODER.decode(text))
        except (_NeedsStrictReader, ValueError):
            pass
    return _StrictReader(text).read()


class _NeedsStrictReader(Exception):
    """The text holds something that the strict reader has to report."""


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """json's object_pairs_hook: the object; raises _NeedsStrictReader if a key occurs twice."""
    members = dict(pairs)
    if len(members) < len(pairs):
        raise _NeedsStrictReader
    return members


def _integer(digits: str) -> int:
    """json's parse_int; raises _NeedsStrictReader where a double may not be large enough."""
    if len(digits) > _MAX_DIGITS - 1:
        raise _NeedsStrictReader
    return int(digits)


def _real(digits: str) -> float:
    """json's parse_float; raises _NeedsStrictReader for a number beyond a double, as 1e999."""
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise _NeedsStrictReader
    return value


def _constant(word: str) -> NoReturn:
    raise _NeedsStrictReader


_FAST_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_constant=_constant, parse_int=_integer, parse_float=_real
)


@dataclass(slots=True)
class _Frame:
    """An open array or object, and the place in it: the index of the element, or the key and its position."""

    container: list[object] | dict[str, object]
    position: int = 0
    key: str = ""


class _Unreadable(Exception):
    """Ends a strict reading; `fault` becomes the last one of its result."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault


class _StrictReader:
    """Goes through a text once; `frames` are the open brackets around index `at`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.n_values = 0
        self.frames: list[_Frame] = []
        self.faults: list[Fault] = []

    def read(self) -> ParsedJson:
        """The value of the whole text and its faults; to be called once."""
        try:
            value = self._value()
            if self._peek():
                self._fail(Expected.END)
        except _Unreadable as stop:
            return ParsedJson(None, (*self.faults, stop.fault), complete=False)
        return ParsedJson(value, tuple(self.faults))

    def _value(self) -> object:
        """The value at `at`, with `frames` in place of recursion. Raises _Unreadable."""
        expected = Expected.VALUE
        while True:
            character = self._peek()
            if character in ("{", "["):
                opened = self._open(character)
                if opened is None:
                    expected = Expected.VALUE
                    continue
                value: object = opened
            else:
                value = self._scalar(character, expected)
            while True:
                if not self.frames:
                    return value
                frame = self.frames[-1]
                self._put(frame, value)
                character = self._peek()
                if character == ",":
                    self.at += 1
                    expected = self._next(frame)
                    break
                if character != ("]" if isinstance(frame.container, list) else "}"):
                    self._fail(Expected.COMMA)
                self.at += 1
                value = self.frames.pop().container

    def _open(self, bracket: str) -> list[object] | dict[str, object] | None:
        """Opens an array or object: the empty one itself, or None where its first value is to be read."""
        self._count()
        if len(self.frames) >= MAX_DEPTH:
            message = f"arrays and objects are nested more than {MAX_DEPTH} deep."
            del self.frames[_SHOWN_DEPTH:]
            self._stop("nested_too_deeply", message, "Write the row flatter.")
        self.at += 1
        container: list[object] | dict[str, object] = [] if bracket == "[" else {}
        if self._peek() == ("]" if bracket == "[" else "}"):
            self.at += 1
            return container
        self.frames.append(_Frame(container))
        if bracket == "{":
            self._key(self.frames[-1], Expected.KEY)
        return None

    def _next(self, frame: _Frame) -> Expected:
        """What follows a comma in this frame; in an object its next key is read."""
        if isinstance(frame.container, list):
            return Expected.ELEMENT
        self._key(frame, Expected.NEXT_KEY)
        return Expected.VALUE

    def _key(self, frame: _Frame, expected: Expected) -> None:
        """Reads a key and its colon into the frame; notes a key that occurs twice. Raises _Unreadable."""
        assert isinstance(frame.container, dict)
        frame.key, frame.position = "", len(frame.container)
        if self._peek() != '"':
            self._fail(expected)
        start = self.at
        frame.key = self._string()
        if frame.key in frame.container:
            if len(self.faults) < MAX_FAULTS:
                frame.position = list(frame.container).index(frame.key)
            self._note(start, "duplicate_key", "a key occurs twice in the same object.", "Keep one of the two.")
        if self._peek() != ":":
            self._fail(Expected.COLON)
        self.at += 1

    def _scalar(self, character: str, expected: Expected) -> object:
        """A string, number or constant; None, and noted, for NaN. Raises _Unreadable for all else."""
        self._count()
        if character == '"':
            return self._string()
        start = self.at
        if number := _NUMBER.match(self.text, start):
            self.at = number.end()
            return self._number(number, start)
        if constant := _CONSTANT.match(self.text, start):
            self.at = constant.end()
            word = constant.group()
            if word not in _CONSTANTS:
                message = "NaN or Infinity is used here, which JSON does not have."
                self._note(start, "nan", message, "Write null, or a number.")
            return _CONSTANTS.get(word)
        return self._fail(expected)

    def _number(self, number: re.Match[str], start: int) -> int | float | None:
        """The number of a match; None, and noted, where it is beyond a double."""
        digits, fraction, exponent = number.groups()
        is_real = fraction is not None or exponent is not None
        if len(digits) < _MAX_DIGITS and not is_real:
            return int(digits)
        value = float(number.group())
        if value in (float("inf"), float("-inf")) or not is_real:
            message = "a number is larger than a 64-bit floating point number can be."
            self._note(start, "huge_number", message, "Write a smaller number, or put it in quotes.")
            return None
        return value

    def _string(self) -> str:
        """The string at `at`; half surrogates are noted and replaced. Raises _Unreadable."""
        start = self.at
        value: str
        try:
            value, self.at = scanstring(self.text, start + 1, True)
        except json.JSONDecodeError as error:
            raise _Unreadable(
                json_faults.explain_string(self.text, start, error.pos, error.msg, self._path())
            ) from None
        if "\\" in self.text[start : self.at] and not _is_text(value):
            message = "the text holds half of a surrogate pair, which is no character."
            self._note(start, "invalid_text", message, "Remove the lone \\ud800-\\udfff escape.")
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value

    def _put(self, frame: _Frame, value: object) -> None:
        """Adds a value to the frame's array, or at its key to the object."""
        if isinstance(frame.container, list):
            frame.container.append(value)
            frame.position = len(frame.container)
        else:
            frame.container[frame.key] = value

    def _peek(self) -> str:
        """Skips blanks; the character behind them, "" at the end."""
        blank = _BLANK.match(self.text, self.at)
        assert blank is not None
        self.at = blank.end()
        return self.text[self.at : self.at + 1]

    def _count(self) -> None:
        """Counts a value; raises _Unreadable beyond MAX_VALUES."""
        self.n_values += 1
        if self.n_values > MAX_VALUES:
            message = f"the row holds more than {MAX_VALUES:,} JSON values."
            self._stop("too_many_values", message, "Split the row.")

    def _note(self, start: int, code: str, message: str, fix: str) -> None:
        """Adds a fault that does not end the reading, unless there are MAX_FAULTS."""
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(Fault(start + 1, self._path(), code, message, fix))

    def _stop(self, code: str, message: str, fix: str) -> NoReturn:
        """Raises _Unreadable for a limit that is exceeded here."""
        raise _Unreadable(Fault(self.at + 1, self._path(), code, message, fix))

    def _fail(self, expected: Expected) -> NoReturn:
        """Raises _Unreadable: the text has not what is expected here."""
        # What is missing between two values is missing in the array or object, not in one of them.
        around = self.frames if expected in (Expected.VALUE, Expected.COLON) else self.frames[:-1]
        raise _Unreadable(json_faults.explain(self.text, self.at, expected, self._path(around)))

    def _path(self, frames: list[_Frame] | None = None) -> str:
        """The path of the place that is read, or of `frames`."""
        path = ""
        for frame in self.frames if frames is None else frames:
            if isinstance(frame.container, list):
                path += f"[{frame.position}]"
            else:
                path = json_path.member_path(path, frame.key, frame.position)
        return path


def _is_text(value: str) -> bool:
    """Whether a string holds no half of a surrogate pair."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
