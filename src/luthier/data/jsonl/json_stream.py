"""The values of a JSON document one by one, however it is laid out: an array, objects on end, rows under a key.

Holds one value at a time. It looks only at brackets and strings; whether a value is JSON is checked by the caller:
repair/, which writes the values as lines, and file_types/, which tells where a document is damaged.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

MAX_ELEMENT_BYTES = 64 * 1024 * 1024
_TOKEN = re.compile(rb'[{}\[\]]|"(?:[^"\\]++|\\.)*+"|"', re.DOTALL)
_BETWEEN = re.compile(rb"[\s,]*")


class Unsplittable(Exception):
    """The document cannot be split; the message says why, with the line."""


@dataclass(frozen=True, slots=True)
class Element:
    """A value as it is in the document, in bytes, and the line, from 1, on which it begins."""

    line: int
    content: bytes


@dataclass(slots=True)
class LayoutFaults:
    """What was odd in the document, each as a line, None where there was nothing of the kind.

    `comma_line`: of a ] behind a comma; `unclosed_line`: where a document ends whose brackets are not all closed;
    `cut_line`: on which the value begins that the end of the document cuts off.
    """

    comma_line: int | None = None
    unclosed_line: int | None = None
    cut_line: int | None = None


class Nesting(IntEnum):
    """Where in a document the wanted values are; the number is how many brackets are open around each."""

    TOP_LEVEL = 0
    IN_ARRAY = 1
    IN_ARRAY_AT_KEY = 2


class ElementSplitter:
    """Splits a document into its values: those of the text itself, of an array, or of an array at `key`.

    For one document; `faults` is complete once `split` is exhausted.
    """

    def __init__(self, nesting: Nesting, key: str | None = None) -> None:
        assert (key is not None) == (nesting is Nesting.IN_ARRAY_AT_KEY)
        self._nesting = nesting
        self._key = key
        self._buffer = bytearray()
        self._position = 0
        self._start: int | None = None
        self._line = 1
        self._newlines_counted_to = 0
        self._depth = 0
        self._last_string = b""
        self._inside_rows = nesting is not Nesting.IN_ARRAY_AT_KEY
        self._has_comma = False
        self.faults = LayoutFaults()

    def split(self, chunks: Iterable[bytes]) -> Iterator[Element]:
        """Yields the values in their order, a last one that is cut off included; fills `faults`.

        Raises Unsplittable, at the end too: for anything else between values, a bracket too many, a value that is too
        long.
        """
        for chunk in chunks:
            self._drop_consumed()
            self._buffer += chunk
            if len(self._buffer) > MAX_ELEMENT_BYTES + len(chunk):
                raise Unsplittable(f"a value from line {self._line} on is longer than {MAX_ELEMENT_BYTES >> 20} MiB")
            yield from self._elements()
        remainder = bytes(self._buffer[self._start or self._position :]).strip(b" \t\r\n,")
        if self._start is not None or remainder.startswith(b'"'):
            self.faults.cut_line = self._line_number(self._start or self._position)
            if self._start is not None:
                yield Element(self.faults.cut_line, bytes(self._buffer[self._start :]).rstrip())
        elif remainder and self._inside_rows:
            raise Unsplittable(f"on line {self._line_number(len(self._buffer))} there is something other than rows")
        if self._depth or self._start is not None:
            self.faults.unclosed_line = self._line_number(len(self._buffer.rstrip()))

    def _elements(self) -> Iterator[Element]:
        """Yields the values that are complete in the buffer; what follows them stays for the next chunk."""
        while token := _TOKEN.search(self._buffer, self._position):
            text = token.group()
            if text == b'"':
                return  # a string that continues in the next chunk
            begins = self._start is None and self._inside_rows and self._depth == self._nesting
            if self._start is None and self._inside_rows:
                self._check_between(token.start())
            if begins and text in (b"{", b"["):
                self._start = token.start()
            self._position = token.end()
            if text in (b"{", b"["):
                self._open(text)
            elif text in (b"}", b"]"):
                yield from self._close(text, token.start())
            elif begins:
                self._has_comma = False
                yield Element(self._line_number(token.start()), bytes(text))
            elif self._depth == 1:
                self._last_string = bytes(text[1:-1])

    def _open(self, bracket: bytes) -> None:
        """Counts an opening bracket; the array at the wanted key begins the rows."""
        self._depth += 1
        if self._nesting is Nesting.IN_ARRAY_AT_KEY and self._depth == 2 and bracket == b"[":
            self._inside_rows = self._start is None and self._last_string.decode("utf-8", "replace") == self._key

    def _close(self, bracket: bytes, at: int) -> Iterator[Element]:
        """Counts the closing bracket at buffer index `at`; yields the value that it completes.

        Notes a comma in front of the array's end. Raises Unsplittable where no bracket is open.
        """
        self._depth -= 1
        if self._depth < 0:
            raise Unsplittable(f"on line {self._line_number(at)} a bracket is closed that was never opened")
        if self._start is not None and self._depth == self._nesting:
            yield Element(self._line_number(self._start), bytes(self._buffer[self._start : self._position]))
            self._start = None
            self._has_comma = False
        elif self._start is None and self._inside_rows and self._depth == self._nesting - 1:
            if self._has_comma:
                self.faults.comma_line = self._line_number(at)
            self._inside_rows = self._nesting is not Nesting.IN_ARRAY_AT_KEY

    def _check_between(self, end: int) -> None:
        """Only blanks and commas may be between rows; raises Unsplittable for anything else before index `end`."""
        between = _BETWEEN.match(self._buffer, self._position, end)
        assert between is not None
        if between.end() < end:
            raise Unsplittable(f"on line {self._line_number(between.end())} there is something other than rows")
        self._has_comma = self._has_comma or b"," in between.group()

    def _line_number(self, at: int) -> int:
        """The line, from 1, of a buffer index; the count is kept, so that rising indices are counted once."""
        if at < self._newlines_counted_to:
            return self._line - self._buffer.count(b"\n", at, self._newlines_counted_to)
        self._line += self._buffer.count(b"\n", self._newlines_counted_to, at)
        self._newlines_counted_to = at
        return self._line

    def _drop_consumed(self) -> None:
        """Removes from the buffer all before the value that is open, and moves the positions accordingly."""
        end = self._position if self._start is None else self._start
        self._line_number(end)
        self._line -= self._buffer.count(b"\n", end, self._newlines_counted_to)
        del self._buffer[:end]
        self._newlines_counted_to = 0
        self._position -= end
        if self._start is not None:
            self._start = 0
