"""Lines of a JSONL file from chunks of bytes, each with its number; broken ones as Problems, not exceptions."""

import codecs
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from luthier.data.problem import Problem, Severity

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer line is no training row but a file of another kind; it is never held in memory whole."""

_COMPRESSED = {b"PK\x03\x04": "a zip or Excel file", b"\x1f\x8b": "a gzip file", b"PAR1": "a Parquet file"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line without its end. `whole` is False where the line was longer than MAX_LINE_BYTES and was cut."""

    number: int
    content: bytes
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """The JSON object that stands on a line."""

    line: int
    value: dict[str, object]


def lines(chunks: Iterable[bytes]) -> Iterator[Line]:
    """Yields the lines that are not blank, numbered from 1; takes LF and CRLF, a BOM, and a last line without end."""
    for number, (content, whole) in enumerate(_split(chunks), start=1):
        if number == 1:
            content = content.removeprefix(codecs.BOM_UTF8)
        if content.strip():
            yield Line(number, content.removesuffix(b"\r"), whole)


def rows(chunks: Iterable[bytes]) -> Iterator[Row | Problem]:
    """Yields for each line its JSON object, or the Problem that it has instead."""
    for line in lines(chunks):
        yield parse(line)


def parse(line: Line) -> Row | Problem:
    """The JSON object of one line, or what is wrong with it."""
    if not line.whole:
        message = f"the line is longer than {MAX_LINE_BYTES // 2**20} MiB."
        return _problem(line, "line_too_long", message, "Write one JSON object on each line.")
    try:
        value = json.loads(line.content.decode("utf-8"))
    except UnicodeDecodeError as error:
        message = f"byte {error.start + 1} of the line is not UTF-8."
        return _problem(line, "invalid_utf8", message, "Save the file as UTF-8.")
    except json.JSONDecodeError as error:
        message = f"not valid JSON at column {error.colno}: {error.msg}."
        return _problem(line, "invalid_json", message, "Write one complete JSON object on each line.")
    except (RecursionError, ValueError):
        # ValueError: an integer of more digits than Python converts.
        message = "the JSON is nested too deeply or holds a number of thousands of digits."
        return _problem(line, "invalid_json", message, "Write one plain JSON object on each line.")
    if not isinstance(value, dict):
        message = f"a JSON {json_type(value)} stands where an object is needed."
        return _problem(line, "not_an_object", message, 'Write {"messages": [...]} on each line.')
    return Row(line.number, value)


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


def likely_format(start: bytes) -> str | None:
    """What a file that is no JSONL probably is, from its first bytes; None if nothing fits."""
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            return name
    text = start.removeprefix(codecs.BOM_UTF8).lstrip()
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "text in UTF-16"
    if text.startswith(b"["):
        return "one JSON array"
    if text.startswith(b"{"):
        return "JSON that is spread over several lines"
    if b"\0" in start:
        return "a binary file"
    return None


def _split(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bool]]:
    pending = bytearray()
    whole = True
    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            whole = _take(pending, part) and whole
            yield bytes(pending), whole
            pending.clear()
            whole = True
        whole = _take(pending, rest) and whole
    if pending or not whole:
        yield bytes(pending), whole


def _take(pending: bytearray, part: bytes) -> bool:
    """Adds as much of `part` as the limit allows and says whether that was all of it."""
    room = MAX_LINE_BYTES - len(pending)
    pending += part[:room]
    return len(part) <= room


def _problem(line: Line, code: str, message: str, fix: str) -> Problem:
    return Problem(line.number, "", code, Severity.ERROR, message, fix)
