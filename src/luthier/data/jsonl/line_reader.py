"""Lines of a JSONL file from chunks of bytes, each with its number; broken ones as Problems, not exceptions.

The checks, the repair and, through the checks, the trainer read their files with it.
"""

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from luthier.data.jsonl import double_encoding, json_documents, json_reader, python_literal
from luthier.data.jsonl.json_faults import Fault
from luthier.data.problems.problem import Problem, Severity

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is no training row but a file of another kind; it is never held in memory whole."""

_PYTHON = "Write it with json.dumps; luthier check OLD --fix NEW does it."


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its end, numbered from 1 with blank lines counted.

    `complete` is False if the line was longer than MAX_LINE_BYTES and was cut. `ended` is False for a last line without
    line end; `blanks_before` counts the blank lines since the last one.
    """

    number: int
    content: bytes
    complete: bool = True
    ended: bool = True
    blanks_before: int = 0


@dataclass(frozen=True, slots=True)
class JsonRow:
    """The JSON object of a line, and the faults, each an error, that did not keep it from being parsed.

    The value holds no half of a surrogate pair, and nothing that JSON does not have.
    """

    line: int
    value: dict[str, object]
    problems: tuple[Problem, ...] = ()


def read_lines(chunks: Iterable[bytes]) -> Iterator[Line]:
    """Yields the lines that are not blank, numbered from 1; takes LF and CRLF, a BOM, and a last line without end."""
    splitter = LineSplitter()
    for chunk in chunks:
        yield from splitter.add(chunk)
    yield from splitter.finish()


class LineSplitter:
    """Takes a file's chunks one by one and gives the lines that they complete; holds the line that is not yet whole."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._whole = True
        self._number = 0
        self._blanks = 0

    @property
    def is_inside_line(self) -> bool:
        """Whether a line has begun that has not ended yet."""
        return bool(self._pending) or not self._whole

    @property
    def n_blanks(self) -> int:
        """How many blank lines precede the next line."""
        return self._blanks

    def skip_lines(self, n_lines: int) -> int:
        """Counts lines that the caller has split itself, between two lines; returns the number of their first."""
        self._number += n_lines
        return self._number - n_lines + 1

    def add(self, chunk: bytes) -> Iterator[Line]:
        """Yields the lines, but for blank ones, that the chunk completes; keeps its rest for the next chunk."""
        *complete_parts, tail = chunk.split(b"\n")
        for part in complete_parts:
            self._take(part)
            yield from self._line(ended=True)
        self._take(tail)

    def finish(self) -> Iterator[Line]:
        """Yields the last line if the file ends without a line end; to be called after the last chunk."""
        if self._pending or not self._whole:
            yield from self._line(ended=False)

    def _take(self, part: bytes) -> None:
        """Appends to the line that is open; what goes beyond MAX_LINE_BYTES is dropped, and the line is not whole."""
        room = MAX_LINE_BYTES - len(self._pending)
        self._pending += part[:room]
        self._whole = self._whole and len(part) <= room

    def _line(self, ended: bool) -> Iterator[Line]:
        """Ends the line that is open: counts it, and yields it unless it is blank. Line 1 loses a byte order mark."""
        self._number += 1
        content = bytes(self._pending)
        if self._number == 1:
            content = content.removeprefix(codecs.BOM_UTF8)
        if content.strip():
            yield Line(self._number, content.removesuffix(b"\r"), self._whole, ended, self._blanks)
            self._blanks = 0
        else:
            self._blanks += 1
        self._pending.clear()
        self._whole = True


def read_rows(chunks: Iterable[bytes]) -> Iterator[JsonRow | Problem]:
    """Yields for each line that is not blank its JSON object, or the Problem that it has instead; never raises."""
    for line in read_lines(chunks):
        yield parse_line(line)


def parse_line(line: Line) -> JsonRow | Problem:
    """The JSON object of one line, with faults that left it readable; or the error that keeps it from being read.

    Never raises for the line's content.
    """
    if not line.complete:
        message = f"the line is longer than {MAX_LINE_BYTES // 2**20} MiB."
        return _problem(line, "", "line_too_long", message, "Write one JSON object on each line.")
    try:
        text = line.content.decode("utf-8")
    except UnicodeDecodeError as error:
        return _not_utf8(line, error)
    reading = json_reader.read(text)
    if not reading.complete and reading.faults[-1].code == "bom_inside" and text.startswith("\ufeff"):
        problem = _fault_problem(line, reading.faults[-1])
        parsed_rest = parse_line(Line(line.number, text[1:].encode(), ended=line.ended))
        # The rest of the row can still be read, unless it has a worse fault.
        return (
            JsonRow(parsed_rest.line, parsed_rest.value, (problem, *parsed_rest.problems))
            if isinstance(parsed_rest, JsonRow)
            else parsed_rest
        )
    if not reading.complete and reading.faults[-1].code == "single_quotes" and python_literal.read(text) is not None:
        message = "the row is written as Python prints a dict, not as JSON."
        return _problem(line, reading.faults[-1].path, "single_quotes", message, _PYTHON)
    if not reading.complete:
        return _fault_problem(line, reading.faults[-1])
    problems = tuple(_fault_problem(line, fault) for fault in reading.faults)
    if not isinstance(reading.value, dict):
        return _not_an_object(line, reading.value)
    return JsonRow(line.number, reading.value, problems)


def _not_an_object(line: Line, value: object) -> Problem:
    """The error of a line whose value is no object: one that was encoded twice, bare messages, or any other."""
    if isinstance(value, str) and double_encoding.decode(value) is not None:
        message = double_encoding.encoded_twice_message("the row", value)
        return _problem(line, "", "encoded_twice", message, double_encoding.FIX)
    if json_documents.are_turns(value):
        message = "the messages are there without the object around them."
        fix = 'Write {"messages": [...]}; luthier check OLD --fix NEW does it.'
        return _problem(line, "", "not_an_object", message, fix)
    message = f"a JSON {json_type(value)} is used where an object is needed."
    return _problem(line, "", "not_an_object", message, 'Write {"messages": [...]} on each line.')


def json_type(value: object) -> str:
    """JSON's own word for the type of a decoded value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def _not_utf8(line: Line, error: UnicodeDecodeError) -> Problem:
    """The error of a line's first byte that is not UTF-8: the end of a file cut off, or another encoding."""
    column = len(line.content[: error.start].decode("utf-8")) + 1
    if error.reason == "unexpected end of data" and not line.ended:
        message = f"the line ends at column {column} in the middle of a character."
        return _problem(line, "", "truncated_json", message, "The file was cut off: write it again.")
    message = f"at column {column} there is a byte that is not UTF-8."
    fix = "Write the line in UTF-8; luthier check says for a whole file which encoding it may be in."
    return _problem(line, "", "invalid_utf8", message, fix)


def _fault_problem(line: Line, fault: Fault) -> Problem:
    """A fault of the line's JSON as a Problem of the file."""
    return _problem(line, fault.path, fault.code, fault.sentence, fault.fix)


def _problem(line: Line, path: str, code: str, message: str, fix: str) -> Problem:
    return Problem(line.number, path, code, Severity.ERROR, message, fix)
