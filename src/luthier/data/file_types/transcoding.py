"""Converts a file to UTF-8, whatever it is in: as a whole, or only those of its lines that are not UTF-8 already."""

import codecs
import re
from collections.abc import Callable, Iterable, Iterator

from luthier.data.file_types import text_encoding
from luthier.data.file_types.text_encoding import CESU_8, WINDOWS_1252, Undecodable
from luthier.data.jsonl import line_reader
from luthier.data.jsonl.line_reader import Line

_FOREIGN_LINE = re.compile("\n[^\x00-\x7f]+\n")
"""A line without one character of ASCII, which no line of JSON is: bytes of UTF-8 read as UTF-16."""

OnChange = Callable[[str, int], None]
"""Called with the code of a change and its line."""


def is_ascii_superset(encoding: str) -> bool:
    """Whether ASCII bytes mean ASCII in an encoding, so that a file in it can be split at its line ends."""
    ascii = bytes((10, *range(32, 127)))
    return not encoding.startswith(("iso2022", "hz", "utf_7")) and ascii.decode(encoding, "replace") == ascii.decode()


def transcode_lines(chunks: Iterable[bytes], encoding: str, note: OnChange | None = None) -> Iterator[bytes]:
    """Yields a file as UTF-8, of which the lines that are not UTF-8 are in `encoding`.

    Raises Undecodable, naming the line. An encoding that is not ASCII for ASCII is that of the whole file; damaged
    UTF-8 passes unchanged. `note` is told which lines were decoded, and which of the others were UTF-8 beyond ASCII.
    """
    if encoding != CESU_8 and not is_ascii_superset(encoding):
        if note is not None:
            note("encoding", 1)
        yield from transcode_stream(chunks, encoding)
        return
    code = {WINDOWS_1252: "windows_1252", CESU_8: "cesu8"}.get(encoding, "encoding")
    for number, line in enumerate(raw_lines(chunks), 1):
        utf8 = text_encoding.is_utf8(line)
        if line.isascii() or (
            not utf8 and not text_encoding.is_other_encoding(Line(number, line, ended=line[-1:] == b"\n"))
        ):
            yield line
            continue
        if note is not None:
            note("utf8_kept" if utf8 else code, number)
        try:
            yield line if utf8 else text_encoding.decode_line(line, encoding).encode()
        except Undecodable as error:
            raise Undecodable(f"line {number}: {error}") from None


def raw_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yields the lines with their ends. Raises Undecodable for one longer than 64 MiB."""
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        for part in re.findall(rb"[^\n]*\n|[^\n]+", chunk):
            parts.append(part)
            size += len(part)
            if part.endswith(b"\n"):
                yield b"".join(parts)
                parts, size = [], 0
            elif size > line_reader.MAX_LINE_BYTES:
                raise Undecodable(f"a line is longer than {line_reader.MAX_LINE_BYTES >> 20} MiB")
    if parts:
        yield b"".join(parts)


def transcode_stream(chunks: Iterable[bytes], encoding: str, skipped: int = 0) -> Iterator[bytes]:
    """Yields a stream of bytes in one encoding as UTF-8, without the first `skipped` bytes.

    Raises Undecodable for bytes that are not in it, and for characters that no file of rows has: such bytes are in two
    encodings.
    """
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    odd = _FOREIGN_LINE if encoding.startswith(("utf-16", "utf-32")) else text_encoding.CONTROLS
    line = 1
    for chunk in _with_end(chunks):
        piece = b"" if chunk is None else chunk[skipped:]
        skipped = max(0, skipped - len(chunk or b""))
        try:
            text = decoder.decode(piece, final=chunk is None)
        except UnicodeError:
            raise Undecodable(f"behind line {line} the bytes are not {encoding}") from None
        if match := odd.search(text):
            line += text.count("\n", 0, match.start() + 1)
            raise Undecodable(f"the bytes of line {line} are not {encoding}, as those of the file are")
        line += text.count("\n")
        yield text.encode()


def _with_end(chunks: Iterable[bytes]) -> Iterator[bytes | None]:
    """Yields the chunks, and None after the last."""
    yield from chunks
    yield None
