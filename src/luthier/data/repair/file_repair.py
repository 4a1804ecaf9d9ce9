"""Repairs a faulty data file: the same rows, without the faults whose repair loses nothing and needs no judgement.

Used by `luthier check --fix` (`cli/data/repair.py`), which writes the copy. What a row says is never changed but for
keys of an older form; a row that cannot be repaired safely is passed on as it is.
"""

import codecs
import json
from array import array
from collections.abc import Iterable, Iterator

from luthier.data.dataset_formats import known_formats
from luthier.data.dataset_formats.dataset_format import NOTES, RowKind
from luthier.data.file_types import file_type, text_encoding, transcoding, whole_file
from luthier.data.jsonl import double_encoding, json_documents, json_reader, line_reader, python_literal
from luthier.data.jsonl.json_stream import ElementSplitter, Nesting, Unsplittable
from luthier.data.jsonl.line_reader import JsonRow, Line
from luthier.data.problems.problem import Problem
from luthier.data.repair import repairable_rows, row_repair
from luthier.data.repair.repairable_rows import Unrepairable
from luthier.data.rows import supervised

__all__ = ["CHANGE_TEXTS", "DROPPED", "FILE_CHANGES", "FileRepair", "Unrepairable", "change_text", "detect_encoding"]

_BOM = codecs.BOM_UTF8
_SAMPLE_BYTES = 4096
CHANGE_TEXTS = {
    "encoding": "text of another encoding turned into UTF-8",
    "utf8_kept": "UTF-8 already, kept as it was",
    "utf16": "UTF-16 or UTF-32 turned into UTF-8",
    "windows_1252": "Windows-1252 turned into UTF-8",
    "cesu8": "CESU-8 turned into UTF-8",
    "byte_order_mark": "byte-order mark removed",
    "crlf": "CRLF line end turned into LF",
    "blank_line": "blank line removed",
    "array": "elements of a JSON array put on lines of their own",
    "bracket": "bracket of an array around the lines removed",
    "spread": "object spread over several lines put on one",
    "wrapped": "rows taken out of the JSON document around them",
    "table": "rows of a table turned into objects, by the names of the columns",
    "fence": "Markdown fence removed",
    "module": "rows taken out of a module of JavaScript or Python",
    "trailing_comma": "comma behind the object removed",
    "several_objects": "objects on one line put on lines of their own",
    "python": "Python's writing turned into JSON",
    "bare_messages": "array of messages put into an object",
    "encoded_twice": "text that holds JSON decoded",
    "duplicate": "row removed that is the same as an earlier one",
    **row_repair.CHANGE_TEXTS,
    **NOTES,
    **{
        form.name: f"{form.title} turned into {'preference pairs' if form.kind is RowKind.PAIRS else 'messages'}"
        for form in known_formats.FORMATS
    },
}
"""What was done, by its code."""
DROPPED = "dropped_key:"
"""Begins the code of a key that was left out; the key itself ends it."""
_MAX_DROPPED = 100
"""So many different keys are named, and no more than so many characters of each."""
FILE_CHANGES = frozenset({"utf16", "array", "spread", "crlf", "wrapped", "table", "module"})
"""What is done to a file as a whole; its line is then the first."""


def change_text(code: str) -> str:
    """What a change code means, in words to print. A code may end with a key from the user's file.

    Raises KeyError for no code.
    """
    if not code.startswith(DROPPED):
        return CHANGE_TEXTS[code]
    key = code.removeprefix(DROPPED)
    return f"{key} left out, for which messages have no place" if key else "further keys left out"


class FileRepair:
    """The repair of one file, used once: `lines` does the work, `changes` then holds the input's line numbers by code.

    `encoding` is that of the lines that are not UTF-8, as Python's codec name: one that the user named or that
    `detect_encoding` is certain of. With None such lines stay as they are. The hash of each row is kept, to drop
    duplicates.
    """

    def __init__(self, encoding: str | None = None) -> None:
        self.changes: dict[str, array[int]] = {}
        self._seen: set[int] = set()
        self._dropped: set[str] = set()
        self._encoding = encoding

    def lines(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """Yields the repaired file line by line, each a row as UTF-8 bytes that end in LF; reads `chunks` as it goes.

        Fills `changes`. Raises Unrepairable, perhaps after some lines, for a file that cannot be rewritten without loss
        or decoded.
        """
        try:
            for number, text in repairable_rows.read_rows(self._in_utf8(chunks), self._note):
                yield from self._repair_line(number, text)
        except text_encoding.Undecodable as error:
            raise Unrepairable(str(error)) from None

    def _in_utf8(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The file's bytes as UTF-8, decoded from UTF-16 or UTF-32, or lines of it from the encoding that was given.

        Without one the bytes pass unchanged. Records what was decoded; the returned iterator may raise Undecodable.
        """
        head, all_chunks = repairable_rows.read_head(chunks, _SAMPLE_BYTES)
        if marked := text_encoding.detect_utf16_or_32(head):
            encoding, n_skipped = marked
            self._note("utf16", 1)
            return transcoding.transcode_stream(all_chunks, encoding, n_skipped)
        if self._encoding is None:
            return all_chunks
        return transcoding.transcode_lines(all_chunks, self._encoding, self._note)

    def _repair_line(self, number: int, text: bytes) -> Iterator[bytes]:
        """Yields the repaired rows of one line, most often one, each ending in LF; none for a duplicate.

        Text that cannot be repaired safely is yielded unchanged. Records every change under the line's number.
        """
        clean = text.strip().replace(_BOM, b"") if _BOM in text[:64] or text.endswith(_BOM) else text.strip()
        if clean != text.strip():
            self._note("byte_order_mark", number)
        for value, row in self._values(number, clean):
            if value is None:
                yield row + b"\n"
                continue
            repaired = double_encoding.decode_fields(value)
            if repaired is not value:
                self._note("encoded_twice", number)
            repaired, changes = self._convert(JsonRow(number, repaired))
            repaired, more = row_repair.repair_row(repaired)
            for code in (*changes, *more):
                self._note(code, number)
            if repaired is not value:
                row = double_encoding.as_json(repaired)
            if self._is_repeat(repaired):
                self._note("duplicate", number)
            else:
                yield row + b"\n"

    def _values(self, number: int, text: bytes) -> Iterator[tuple[dict[str, object] | None, bytes]]:
        """Yields the objects on a line, each with its JSON text; (None, text) for one that has to stay as it is.

        Records which reading made a line without an object of its own one or several: brackets, commas, Python, ...
        """
        if not text:
            return
        for code, candidate in _without_array_marks(text):
            row = line_reader.parse_line(Line(number, candidate))
            if not isinstance(row, Problem):
                if code:
                    self._note(code, number)
                yield (None if row.problems else row.value), candidate
                return
        if (rows := _parse_non_object(text)) is None:
            yield None, text
            return
        code, values = rows
        self._note(code, number)
        for value in values:
            yield value, double_encoding.as_json(value)

    def _convert(self, row: JsonRow) -> tuple[dict[str, object], list[str]]:
        """The row converted from another dataset format, and the codes of what was done; else the same row and [].

        Of keys that were left out, the first hundred different ones of a file have codes of their own, all others share
        one.
        """
        recognised = supervised.recognise_other_format(row)
        if recognised is None or recognised.conversion is None:
            return row.value, []
        conversion = recognised.conversion
        dropped: dict[str, None] = {}
        for key in conversion.dropped:
            code = f"{DROPPED}{key[:_MAX_DROPPED]}"
            if len(self._dropped) < _MAX_DROPPED:
                self._dropped.add(code)
            dropped[code if code in self._dropped else DROPPED] = None
        return conversion.row, [recognised.format.name, *conversion.notes, *dropped]

    def _is_repeat(self, value: dict[str, object]) -> bool:
        """Whether an equal row, in any order of keys, came before in this file, by its hash; remembers this one."""
        key = hash(json.dumps(value, sort_keys=True))
        if key in self._seen:
            return True
        self._seen.add(key)
        return False

    def _note(self, code: str, line: int) -> None:
        """Appends a line number to `changes` under a code; the same line may be there several times."""
        self.changes.setdefault(code, array("L")).append(line)


def detect_encoding(chunks: Iterable[bytes]) -> str | None:
    """The encoding to give FileRepair: Python's name of the one that lines beside UTF-8 are certainly in, or None.

    None: all is UTF-8, the file is binary or in UTF-16 or UTF-32, or its UTF-8 was damaged. Reads all chunks. Raises
    Unrepairable where the encoding is not certain; the message names the likely ones.
    """
    head, all_chunks = repairable_rows.read_head(chunks, _SAMPLE_BYTES)
    if file_type.detect_binary(head) is not None:
        return None
    survey = text_encoding.survey_encoding(all_chunks)
    verdict = survey.verdict() if survey.n_lines else text_encoding.Verdict(damaged=True)
    if verdict.certain is None and not verdict.damaged:
        lines = "1 line is" if survey.n_lines == 1 else f"{survey.n_lines:,} lines are"
        raise Unrepairable(f"{lines} not UTF-8, the first is line {survey.first}. {whole_file.encoding_fix(survey)}")
    return verdict.certain


def _without_array_marks(text: bytes) -> Iterator[tuple[str, bytes]]:
    """Yields (change code, text): the line as it is with no code, then without an array's comma or bracket on it."""
    yield "", text
    stripped = text.rstrip(b"; \t")
    if stripped.endswith(b","):
        yield "trailing_comma", stripped[:-1].rstrip()
    opened, closed = text.startswith(b"["), stripped.endswith(b"]")
    if opened != closed:
        yield "bracket", stripped.removeprefix(b"[").removesuffix(b"]").strip(b", \t")


def _parse_non_object(text: bytes) -> tuple[str, list[dict[str, object]]] | None:
    """The objects of a line that is not one JSON object, with the code of what it was: array, Python, string ...

    None for a line that cannot be read without judgement.
    """
    if (value := _parse_value(text)) is None:
        objects = _split_objects(text)
        return None if objects is None else ("several_objects", objects)
    code, read = value
    if isinstance(read, dict):
        return code, [read]
    if json_documents.are_turns(read):
        return "bare_messages", [{"messages": read}]
    return (code, read) if json_documents.are_rows(read) and isinstance(read, list) else None


def _parse_value(text: bytes) -> tuple[str, object] | None:
    """The value of a line that may be JSON, a Python literal or JSON inside a JSON string, with its change code.

    None for text that is none of them, not UTF-8, or JSON with a fault; the value in an "encoded_twice" may be None.
    """
    try:
        line = text.decode()
    except UnicodeDecodeError:
        return None
    reading = json_reader.read(line)
    if not reading.complete:
        value = python_literal.read(line.rstrip(","))
        return None if value is None else ("python", value)
    if reading.faults:
        return None
    if isinstance(reading.value, str):
        return "encoded_twice", double_encoding.decode(reading.value)
    return "array", reading.value


def _split_objects(text: bytes) -> list[dict[str, object]] | None:
    """The faultless objects that follow one another on a line; None unless there are two or more and nothing else."""
    objects: list[dict[str, object]] = []
    elements = ElementSplitter(Nesting.TOP_LEVEL)
    try:
        for element in elements.split([text]):
            row = line_reader.parse_line(Line(1, element.content))
            if isinstance(row, Problem) or row.problems:
                return None
            objects.append(row.value)
    except Unsplittable:
        return None
    return objects if len(objects) > 1 and elements.faults.unclosed_line is None else None
