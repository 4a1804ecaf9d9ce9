"""Reads the rows that a repair can take from a file in any layout: lines, a JSON document, a table, rows in a fence.

For `file_repair` only; validation (`data/checks/validate.py`) reads lines and nothing else.
"""

import codecs
import csv
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from luthier.data.file_types import file_type, tabular, text_type, transcoding
from luthier.data.jsonl import double_encoding, json_documents, json_reader, line_reader, python_literal
from luthier.data.jsonl.json_stream import ElementSplitter, Nesting, Unsplittable
from luthier.data.jsonl.line_reader import Line
from luthier.data.problems.problem import Problem
from luthier.data.repair import document_layout

HEAD_BYTES = 1 << 16
_BOM = codecs.BOM_UTF8
_CHANGES = {Nesting.TOP_LEVEL: "spread", Nesting.IN_ARRAY: "array", Nesting.IN_ARRAY_AT_KEY: "wrapped"}

Rows = Iterator[tuple[int, bytes]]
"""Each row with the number of the line on which it begins."""
OnChange = Callable[[str, int], None]
"""Called with the code of a change and its line."""


class Unrepairable(Exception):
    """A file that cannot be rewritten without losing something; the message, for the user, says what."""


def read_rows(chunks: Iterable[bytes], note: OnChange) -> Rows:
    """Detects the layout of a file in UTF-8, then yields its rows, each with the number of the line it begins on.

    `note` is told what was done to the file. Raises Unrepairable for a file of a kind that holds no rows, and for a
    line or a record that cannot be read; Undecodable for a line too long to be held, in a table or between fences.
    """
    head, all_chunks = read_head(chunks, HEAD_BYTES)
    start = head.removeprefix(_BOM).lstrip()
    text = start.decode("utf-8", "replace")
    if text_type.FENCE.match(text):
        yield from read_rows(_without_fences(all_chunks, note), note)
        return
    if module := text_type.ASSIGNMENT.match(text):
        note("module", 1)
        before = len(head) - len(start) + len(module.group().encode())
        yield from _document_rows(
            start[len(module.group().encode()) :], _skip_bytes(all_chunks, before), note, in_module=True
        )
        return
    if start[:1] in (b"[", b"{"):
        yield from _document_rows(start, all_chunks, note)
        return
    kind = (
        file_type.detect_binary(head) or file_type.detect_text(text, len(head) < HEAD_BYTES)
        if not _is_row(start)
        else None
    )
    if kind is None:
        yield from _row_lines(all_chunks, note)
        return
    table = tabular.sniff(text, len(head) < HEAD_BYTES)
    if table is None or table.keys is None:
        raise Unrepairable(f"it looks like {kind.name}. {kind.fix}")
    yield from _table_rows(all_chunks, table, table.keys, note)


def read_head(chunks: Iterable[bytes], n_bytes: int) -> tuple[bytes, Iterator[bytes]]:
    """The first chunks joined, and an iterator over all chunks, those included.

    The head has at least `n_bytes` if there are as many, and the whole first line unless that is longer than 64 MiB.
    """
    pieces = iter(chunks)
    head: list[bytes] = []
    size, has_line = 0, False
    for chunk in pieces:
        head.append(chunk)
        size += len(chunk)
        has_line = has_line or b"\n" in chunk.lstrip()
        if size >= n_bytes and (has_line or size > json_documents.MAX_WHOLE_BYTES):
            break
    return b"".join(head), chain(head, pieces)


def _document_rows(start: bytes, all_chunks: Iterator[bytes], note: OnChange, in_module: bool = False) -> Rows:
    """Yields the rows of text that begins with a bracket: one a line, or JSON laid out in any other way.

    `start` is the head from the bracket on. Up to 64 MiB are held in memory, to recognise the layout. Raises
    Unrepairable for a layout whose rows cannot be told.
    """
    if not in_module and _has_one_row_per_line(start):
        if start.startswith(b"["):
            note("array", 1)
        yield from _row_lines(all_chunks, note)
        return
    buffered: list[bytes] = []
    size = 0
    for chunk in all_chunks:
        buffered.append(chunk)
        size += len(chunk)
        if size > json_documents.MAX_WHOLE_BYTES:
            is_json = start.startswith(b"[") or json_documents.wrapper_key(start) or file_type.is_spread(start)
            yield from (
                _streamed_rows(start, chain(buffered, all_chunks), note)
                if is_json
                else _row_lines(chain(buffered, all_chunks), note)
            )
            return
    content = b"".join(buffered).removeprefix(_BOM)
    layout, loss = document_layout.find_layout(content.rstrip(b"; \t\r\n"))
    if layout is None:
        if not in_module and start.startswith(b"{") and not _are_objects_on_end(content):
            yield from _row_lines(iter([content]), note)
            return
        yield from _streamed_rows(start, iter([content.rstrip(b"; \t\r\n")]), note)
    elif not layout.rows:
        raise Unrepairable(f"it looks like {layout.name}. {layout.advice}")
    elif loss is not None:
        raise Unrepairable(f"it looks like {layout.name}, but {loss}; fix that first")
    else:
        note("wrapped", 1)
        for row in layout.rows:
            yield 1, double_encoding.as_json(row)


def _streamed_rows(start: bytes, all_chunks: Iterator[bytes], note: OnChange) -> Rows:
    """Yields the elements of an array, or objects on end, each on one line, without holding the document in memory.

    Raises Unrepairable where brackets do not match, or for an element over several lines that is no JSON.
    """
    key = json_documents.wrapper_key(start) if start.startswith(b"{") else None
    nesting = (
        Nesting.IN_ARRAY if start.startswith(b"[") else Nesting.TOP_LEVEL if key is None else Nesting.IN_ARRAY_AT_KEY
    )
    on_one_line = nesting is Nesting.TOP_LEVEL and b"\n" not in start.strip()
    note("several_objects" if on_one_line else _CHANGES[nesting], 1)
    elements = ElementSplitter(nesting, key)
    try:
        for element in elements.split(all_chunks):
            text = element.content
            if b"\n" in text or b"\r" in text:
                if (
                    isinstance(problem := line_reader.parse_line(Line(element.line, text)), Problem)
                    and problem.code != "encoded_twice"
                ):
                    raise Unrepairable(f"in the row from line {element.line} on, {problem.message} {problem.fix}")
                text = text.replace(b"\r", b"").replace(b"\n", b" ")
            yield element.line, text
    except Unsplittable as error:
        raise Unrepairable(f"{error}; fix that first") from None


def _table_rows(all_chunks: Iterator[bytes], table: tabular.Table, keys: tuple[str, ...], note: OnChange) -> Rows:
    """Yields each record below the header as a JSON object with these keys.

    Raises Unrepairable for a malformed record and a line that is not UTF-8, Undecodable for one longer than 64 MiB.
    """
    note("table", 1)
    try:
        for number, row in tabular.read_rows(_decoded_lines(all_chunks), table, keys):
            yield number, double_encoding.as_json(row)
    except csv.Error as error:
        raise Unrepairable(f"it looks like {table.name}, but {error}") from None


def _decoded_lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yields the lines of a table as text. Raises csv.Error if one is not UTF-8, Undecodable if one is too long."""
    for number, line in enumerate(transcoding.raw_lines(chunks), 1):
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError:
            raise csv.Error(f"{document_layout.not_utf8(number)}; fix that first") from None


def _row_lines(chunks: Iterator[bytes], note: OnChange) -> Rows:
    """Yields the lines that hold something, numbered from 1, but for lone brackets of an array and fences.

    Notes each line that it leaves out. Raises Unrepairable for a line longer than 64 MiB.
    """
    for line in line_reader.read_lines(_watch_crlf(chunks, note)):
        if not line.complete:
            raise Unrepairable(f"line {line.number} is longer than {line_reader.MAX_LINE_BYTES // 2**20} MiB")
        for blank in range(line.number - line.blanks_before, line.number):
            note("blank_line", blank)
        text = line.content.strip()
        if text in (b"[", b"]", b"],", b"];"):
            note("bracket", line.number)
            continue
        if text.startswith((b"```", b"~~~")):
            note("fence", line.number)
            continue
        yield line.number, line.content


def _watch_crlf(chunks: Iterable[bytes], note: OnChange) -> Iterator[bytes]:
    """The chunks as they are; `note` is told of the first CRLF only, since all lines end with one or none does."""
    before = b""
    noted = False
    for chunk in chunks:
        if not noted and b"\r\n" in before + chunk:
            note("crlf", 1)
            noted = True
        before = chunk[-1:]
        yield chunk


def _without_fences(chunks: Iterable[bytes], note: OnChange) -> Iterator[bytes]:
    """Yields all lines but the marks of Markdown fences, which `note` gets. Raises Undecodable if one is too long."""
    for number, line in enumerate(transcoding.raw_lines(chunks), 1):
        if line.lstrip().startswith((b"```", b"~~~")):
            note("fence", number)
        else:
            yield line


def _skip_bytes(chunks: Iterable[bytes], n_bytes: int) -> Iterator[bytes]:
    """The chunks without the first `n_bytes` of them all."""
    for chunk in chunks:
        yield chunk[n_bytes:]
        n_bytes = max(0, n_bytes - len(chunk))


def _has_one_row_per_line(head: bytes) -> bool:
    """Whether a file that begins so has one row on each line, perhaps with an array's brackets and commas around."""
    lines = [line.strip() for line in head.split(b"\n")]
    if lines and lines[0] == b"[":
        return any(_is_row(line) for line in lines[1:3])
    first = lines[0]
    if first.startswith(b"["):
        has_more_lines = any(line and line != b"]" for line in lines[1:])
        value = json_reader.read(first.decode("utf-8", "replace")).value
        if json_documents.are_turns(value) or json_documents.are_rows(value):
            return has_more_lines
        return has_more_lines and _is_row(first[1:])
    return _is_row(first) and (any(lines[1:]) or not _is_document(first))


def _is_row(line: bytes) -> bool:
    """Whether a line holds one object, as JSON or as Python prints it, with or without a comma behind it."""
    text = line.strip().removesuffix(b",").decode("utf-8", "replace")
    return isinstance(json_reader.read(text).value, dict) or isinstance(python_literal.read(text), dict)


def _is_document(line: bytes) -> bool:
    """Whether the JSON on a line is a document that holds several rows in some layout, not a row."""
    value = json_reader.read(line.decode("utf-8", "replace")).value
    return json_documents.recognise(value) is not None


def _are_objects_on_end(content: bytes) -> bool:
    """Whether a text is nothing but JSON objects, one behind the other over any lines."""
    elements = ElementSplitter(Nesting.TOP_LEVEL)
    try:
        return all(isinstance(json_reader.read(one.content.decode()).value, dict) for one in elements.split([content]))
    except (Unsplittable, UnicodeDecodeError):
        return False
