"""What a file is that holds no JSON lines, from its first bytes, and how its rows become JSON lines."""

import codecs
import re
from dataclasses import dataclass

SAMPLE_BYTES = 4096
"""So many bytes from the start of a file are enough to tell its kind."""

_UNPACK = "Unpack it, and give the JSONL file inside."
_EXPORT = 'Export its rows as JSONL: on each line one object {"messages": [...]}.'
_MAGIC = (
    (b"PK\x03\x04", "a zip or Excel file", _UNPACK),
    (b"\x1f\x8b", "a gzip file", _UNPACK),
    (b"BZh", "a bzip2 file", _UNPACK),
    (b"\xfd7zXZ\0", "an xz file", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd file", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip file", _UNPACK),
    (b"PAR1", "a Parquet file", _EXPORT),
    (b"ARROW1", "an Arrow file", _EXPORT),
    (b"SQLite format 3\0", "an SQLite database", _EXPORT),
    (b"\x89HDF", "an HDF5 file", _EXPORT),
    (b"%PDF", "a PDF file", _EXPORT),
    (b"\x89PNG", "an image", _EXPORT),
    (b"\xff\xd8\xff", "an image", _EXPORT),
)
_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_BARE_UTF16 = ((re.compile(rb"(?:[^\0]\0){2}"), "UTF-16LE"), (re.compile(rb"(?:\0[^\0]){2}"), "UTF-16BE"))
_CELL = r'(?:"[^"\n]*"|[\w .-]+)'
_TABLE = re.compile(rf"{_CELL}(?:(?P<mark>[,;\t]){_CELL})(?:(?P=mark){_CELL})*\r?(?:\n|$)")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file looks like, as in "It looks like ...", and what to do."""

    name: str
    fix: str


def of(start: bytes, first_code: str, n_lines: int) -> Kind | None:
    """The kind of a file that begins so; None for what may be JSON lines, or nothing known.

    `first_code` is the problem of its first line, of `n_lines` that were read.
    """
    if known := _by_first_bytes(start):
        return known
    text = _stripped(start)
    if text.startswith(b"["):
        fix = "Put each of its elements on a line of its own, without commas between: jq -c '.[]' OLD > NEW."
        return Kind("one JSON array", fix)
    if text.startswith(b"{"):
        if first_code != "truncated_json" or n_lines == 1:
            return None
        return Kind("JSON that is spread over several lines", "Put each object on one line: jq -c . OLD > NEW.")
    if b"\0" in start:
        return Kind("a binary file", _EXPORT)
    if _TABLE.match(text.decode("utf-8", "replace")):
        return Kind("a table (CSV or TSV)", 'Write each of its rows as {"messages": [...]}, not as columns.')
    return None


def is_other(start: bytes, first_code: str) -> bool:
    """Whether a file whose first line has this problem is of another kind for certain, whatever its lines hold."""
    opens_array = first_code == "truncated_json" and _stripped(start).startswith(b"[")
    return opens_array or _by_first_bytes(start) is not None


def _by_first_bytes(start: bytes) -> Kind | None:
    for magic, name, fix in _MAGIC:
        if start.startswith(magic):
            return Kind(name, fix)
    if encoding := _encoding(start):
        return Kind(f"text in {encoding}", f"Save it as UTF-8: iconv -f {encoding} -t UTF-8 OLD > NEW.")
    return None


def _stripped(start: bytes) -> bytes:
    return start.removeprefix(codecs.BOM_UTF8).lstrip()


def _encoding(start: bytes) -> str | None:
    for mark, name in _MARKS:
        if start.startswith(mark):
            return name
    # Without a mark: ASCII text, as JSON's own characters are, shows in which byte of two the zeros stand.
    for pattern, name in _BARE_UTF16:
        if pattern.match(start):
            return name
    return None
