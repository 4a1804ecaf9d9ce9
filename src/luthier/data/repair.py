"""A faulty data file -> the same rows without the faults whose repair loses nothing and needs no judgement.

What a row says is never changed but for keys of an older form. A row that cannot be mended safely stays as it is.
"""

import codecs
import json
from array import array
from collections.abc import Iterable, Iterator
from itertools import chain

from luthier.data import jsonl, row_repair
from luthier.data.jsonl import Line
from luthier.data.problem import Problem

MAX_WHOLE_BYTES = 64 * 1024 * 1024
"""A file that is no JSON lines is read whole to make it so; a larger one of that kind is left alone."""
_BOM = codecs.BOM_UTF8
_SAMPLE_BYTES = 4096
WORDS = {
    "utf16": "UTF-16 turned into UTF-8",
    "latin1": "Latin-1 turned into UTF-8",
    "byte_order_mark": "byte-order mark removed",
    "crlf": "CRLF line end turned into LF",
    "blank_line": "blank line removed",
    "array": "elements of a JSON array put on lines of their own",
    "spread": "object spread over several lines put on one",
    "trailing_comma": "comma behind the object removed",
    "duplicate": "row removed that is the same as an earlier one",
    **row_repair.WORDS,
}
"""What was done, by its code."""
OF_THE_FILE = frozenset({"utf16", "array", "spread", "crlf"})
"""What is done to a file as a whole; its line is then the first."""


class Unrepairable(Exception):
    """A file that cannot be written anew without losing something; the message says what."""


class Repair:
    """Mends one file; `changes` has the lines of the input by what was done to them, once all lines were read."""

    def __init__(self) -> None:
        self.changes: dict[str, array[int]] = {}
        self._seen: set[int] = set()

    def lines(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The lines of the mended file, each with its end. Raises Unrepairable."""
        first = b""
        rest = iter(chunks)
        for chunk in rest:
            first += chunk
            if len(first) >= _SAMPLE_BYTES:
                break
        encoding = _utf16(first)
        content: Iterator[bytes] = chain([first], rest)
        if encoding is not None:
            self._note("utf16", 1)
            content = _decoded(content, encoding)
        for number, text in self._texts(content):
            row = self._mended(number, text)
            if row is not None:
                yield row

    def _texts(self, content: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
        """The rows of the file with the numbers of their lines, in whatever form they stand there."""
        pieces: Iterator[bytes] = iter(content)
        head = next(pieces, b"")
        whole = chain([head], pieces)
        start = head.removeprefix(_BOM).lstrip()
        if start.startswith(b"[") or (start.startswith(b"{") and not _is_object(start.partition(b"\n")[0])):
            data = bytearray()
            for chunk in whole:
                data += chunk
                if len(data) > MAX_WHOLE_BYTES:
                    break
            values = None if len(data) > MAX_WHOLE_BYTES else _values(bytes(data))
            if values is not None:
                self._note("array" if start.startswith(b"[") else "spread", 1)
                yield from values
                return
            whole = chain([bytes(data)], pieces)
        yield from self._lines(whole)

    def _lines(self, chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
        for line in jsonl.lines(self._noting_crlf(chunks)):
            if not line.whole:
                raise Unrepairable(f"line {line.number} is longer than {jsonl.MAX_LINE_BYTES // 2**20} MiB")
            for blank in range(line.number - line.blanks_before, line.number):
                self._note("blank_line", blank)
            yield line.number, line.content

    def _noting_crlf(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        """The chunks as they are; the first CRLF is noted, for they stand at all lines or at none."""
        before = b""
        for chunk in chunks:
            if "crlf" not in self.changes and b"\r\n" in before + chunk:
                self._note("crlf", 1)
            before = chunk[-1:]
            yield chunk

    def _mended(self, number: int, text: bytes) -> bytes | None:
        """The row on a line; None where it goes."""
        clean = text.strip().replace(_BOM, b"") if _BOM in text[:64] or text.endswith(_BOM) else text.strip()
        if clean != text.strip():
            self._note("byte_order_mark", number)
        row = jsonl.parse(Line(number, clean))
        if isinstance(row, Problem) and row.code == "invalid_utf8":
            latin = clean.decode("latin-1").encode()
            if not isinstance(jsonl.parse(Line(number, latin)), Problem):
                self._note("latin1", number)
                clean, row = latin, jsonl.parse(Line(number, latin))
        if isinstance(row, Problem) and clean.endswith((b"},", b"} ,")):
            short = clean[:-1].rstrip()
            if not isinstance(jsonl.parse(Line(number, short)), Problem):
                self._note("trailing_comma", number)
                clean, row = short, jsonl.parse(Line(number, short))
        if not isinstance(row, Problem) and not row.problems:
            value, done = row_repair.mend(row.value)
            if done:
                for code in done:
                    self._note(code, number)
                clean = json.dumps(value, ensure_ascii=False).encode()
            if self._is_repeat(value):
                self._note("duplicate", number)
                return None
        return clean + b"\n" if clean else None

    def _is_repeat(self, value: dict[str, object]) -> bool:
        key = hash(json.dumps(value, sort_keys=True))
        if key in self._seen:
            return True
        self._seen.add(key)
        return False

    def _note(self, code: str, line: int) -> None:
        self.changes.setdefault(code, array("L")).append(line)


def _utf16(start: bytes) -> str | None:
    """The kind of UTF-16 that a file is in, with its mark or without."""
    if start.startswith(codecs.BOM_UTF16_LE) or start[1:4:2] == b"\0\0":
        return "utf-16-le"
    return "utf-16-be" if start.startswith(codecs.BOM_UTF16_BE) or start[0:3:2] == b"\0\0" else None


def _decoded(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    for chunk in chunks:
        yield decoder.decode(chunk).removeprefix("\ufeff").encode()
    yield decoder.decode(b"", final=True).encode()


def _is_object(line: bytes) -> bool:
    return not isinstance(jsonl.parse(Line(1, line.strip().removesuffix(b","))), Problem)


def _values(data: bytes) -> list[tuple[int, bytes]] | None:
    """The objects of a JSON array, or of JSON that is spread over lines, with their lines; None where it is neither."""
    try:
        text = data.removeprefix(_BOM).decode()
        whole = json.loads(text) if text.lstrip().startswith("[") else None
    except (ValueError, RecursionError):
        return None
    decoder = json.JSONDecoder()
    found: list[tuple[int, bytes]] = []
    place, line, counted = 0, 1, 0
    if whole is not None:
        if not isinstance(whole, list) or not whole or not all(isinstance(one, dict) for one in whole):
            return None
        place = text.index("[") + 1
    while True:
        while place < len(text) and (text[place].isspace() or (whole is not None and text[place] in ",]")):
            place += 1
        if place >= len(text):
            return found
        try:
            _, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            return None
        line += text.count("\n", counted, place)
        counted = place
        found.append((line, text[place:end].replace("\r", "").replace("\n", " ").encode()))
        place = end
