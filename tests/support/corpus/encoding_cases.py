"""Faults of bytes: encodings, line ends, files of another kind, sizes, cut ends."""

import bz2
import gzip
import io
import json
import lzma
import zipfile

from corpus.case import GOOD, Case, broken, error, lines, warning

_UMLAUT = GOOD.replace(b"Jupiter.", "Größer, für 5 €.".encode())
_AS_1252 = GOOD.replace(b"Jupiter.", "Größer, für 5 €.".encode("cp1252"))
_AS_LATIN1 = GOOD.replace(b"Jupiter.", "Größer.".encode("latin-1"))
_TEXT = lines(*[GOOD] * 3).decode()


def _zip() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("rows.jsonl", _TEXT)
    return held.getvalue()


def _other(id: str, content: bytes) -> Case:
    """A file of another kind: one finding, for the file as a whole."""
    return Case(id, content, (error("not_jsonl", line=None),))


_KINDS = (
    _other("utf16_with_mark", _TEXT.encode("utf-16")),
    _other("utf16_big_endian_with_mark", b"\xfe\xff" + _TEXT.encode("utf-16-be")),
    _other("utf16_little_endian_bare", _TEXT.encode("utf-16-le")),
    _other("utf16_big_endian_bare", _TEXT.encode("utf-16-be")),
    _other("utf32_with_mark", _TEXT.encode("utf-32")),
    _other("zip", _zip()),
    _other("gzip", gzip.compress(_TEXT.encode(), mtime=0)),
    _other("bzip2", bz2.compress(_TEXT.encode())),
    _other("xz", lzma.compress(_TEXT.encode())),
    _other("zstd", b"\x28\xb5\x2f\xfd\x04\x00" + bytes(range(200))),
    _other("seven_zip", b"7z\xbc\xaf\x27\x1c\x00\x04" + bytes(range(200))),
    _other("parquet", b"PAR1\x15\x00\x15" + bytes(range(200)) + b"PAR1"),
    _other("arrow", b"ARROW1\0\0" + bytes(range(200))),
    _other("sqlite", b"SQLite format 3\0\x10\x00" + bytes(100)),
    _other("hdf5", b"\x89HDF\r\n\x1a\n" + bytes(100)),
    _other("pdf", b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n"),
    _other("png", b"\x89PNG\r\n\x1a\n" + bytes(100)),
    _other("jpeg", b"\xff\xd8\xff\xe0" + bytes(100)),
    _other("zeros_and_bytes", b"\x01\x02\0\n\xff\n" * 500),
    _other("array_on_one_line", b"[" + GOOD + b", " + GOOD + b"]\n"),
    _other("array_with_a_row_a_line", b"[\n" + GOOD + b",\n" + GOOD + b"\n]\n"),
    _other("array_that_begins_with_a_row", b"[" + GOOD + b",\n" + GOOD + b"]\n"),
    _other("array_with_mark", b"\xef\xbb\xbf[\n" + GOOD + b"\n]\n"),
    _other("array_indented", b'[\n  {\n    "messages": []\n  }\n]\n'),
    _other("object_indented", b'{\n  "messages": [\n    3\n  ]\n}\n'),
    _other("csv", b"prompt,completion\nhello,world\n"),
    _other("csv_with_quotes", b'"prompt","completion"\n"hello, you","world"\n'),
    _other("csv_with_semicolons", b"prompt;completion\nhello;world\n"),
    _other("csv_of_messages", b'messages\r\n"[{""role"": ""user""}]"\r\n'),
    _other("git_lfs_pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"),
    _other("html", b"<!DOCTYPE html>\n<html><body>Sign in</body></html>\n"),
    _other("yaml", b"- messages:\n  - role: user\n    content: Hi\n"),
    _other("speakers", b"Q: Hi\nA: Hello\n\nQ: Bye\nA: See you\n"),
    _other("markdown_fence", b"```json\n" + lines(GOOD, GOOD) + b"```\n"),
    _other("javascript", b"export default [\n" + GOOD + b"\n];\n"),
    _other("encoded_twice", lines(json.dumps(GOOD.decode()).encode())),
    _other("rows_in_an_object", b'{"data": [' + GOOD + b"]}"),
    _other("dataset_viewer", b'{"rows": [{"row_idx": 0, "row": ' + GOOD + b"}]}"),
    _other("pandas_columns", b'{"messages": {"0": [{"role": "user", "content": "Hi"}]}}'),
    _other("python_dicts", lines(GOOD.replace(b'"', b"'"))),
    _other("array_with_a_comma", b"[\n" + GOOD + b",\n]\n"),
    _other("array_without_end", b"[\n" + GOOD + b",\n"),
    _other("tsv", b"prompt\tcompletion\nhello\tworld\n"),
)

CASES = (
    *_KINDS,
    Case("empty", b"", (error("too_few_examples", line=None),)),
    Case("blank_lines_alone", b"\n\n\r\n", (error("too_few_examples", line=None),)),
    Case("nine_rows", lines(*[GOOD] * 9), (error("too_few_examples", line=None),), min_examples=10),
    Case("one_row_of_two", GOOD, (error("too_few_examples", line=None),), min_examples=2),
    Case("over_the_size", lines(GOOD, GOOD), (error("file_too_large", line=None),), max_bytes=100),
    Case("line_too_long", lines(GOOD, b"x" * (64 * 2**20 + 1), GOOD), (error("line_too_long"),)),
    broken("windows_1252", _AS_1252, error("invalid_utf8")),
    broken("latin_1", _AS_LATIN1, error("invalid_utf8")),
    Case("latin_1_throughout", lines(_AS_LATIN1, _AS_LATIN1), (error("invalid_utf8", line=1), error("invalid_utf8"))),
    broken("overlong_utf8", GOOD.replace(b"Jupiter", b"Jup\xc0\xafiter"), error("invalid_utf8")),
    broken("surrogate_in_utf8", GOOD.replace(b"Jupiter", b"Jup\xed\xa0\x80iter"), error("invalid_utf8")),
    broken("byte_ff", b"\xff" + GOOD, error("invalid_utf8")),
    broken("mark_in_the_middle", b"\xef\xbb\xbf" + GOOD, error("bom_inside")),
    broken("mark_in_the_middle_of_a_bad_row", b'\xef\xbb\xbf{"messages": []}', error("bom_inside"),
           error("invalid_messages", "messages")),
    broken("mark_in_the_middle_of_a_broken_row", b"\xef\xbb\xbf{", error("truncated_json")),
    broken("mark_between_values", GOOD.replace(b", ", b",\xef\xbb\xbf"), error("bom_inside", "messages[0]")),
    broken("nul_in_a_string", GOOD.replace(b"Jup", b"Jup\0"), error("nul_byte", "messages[1].content")),
    broken("nul_before_a_row", b"\0" + GOOD, error("nul_byte")),
    broken("nul_alone", b"\0" * 512, error("nul_byte")),
    Case("nul_at_the_end", lines(GOOD, GOOD) + b"\0" * 4096, (error("nul_byte", line=3),)),
    Case("carriage_returns_alone", b"\r".join([GOOD] * 3), (error("lone_carriage_return", line=1),)),
    Case("carriage_returns_amid_lines", lines(GOOD, GOOD + b"\r" + GOOD), (error("lone_carriage_return"),)),
    Case("blank_line", lines(GOOD, b"", GOOD), (warning("blank_lines"),)),
    Case("blank_lines_with_spaces", lines(GOOD, GOOD, b"  ", b"\t", GOOD, b"\r", GOOD), (warning("blank_lines", line=3),)),
    Case("blank_lines_first", lines(b"", GOOD), (warning("blank_lines", line=1),)),
    Case("cut_in_a_string", lines(GOOD) + GOOD[:-10], (error("truncated_json", "messages[1].content"),)),
    Case("cut_between_messages", lines(GOOD) + GOOD[:-2], (error("truncated_json", "messages"),)),
    Case("cut_in_a_character", lines(GOOD) + _UMLAUT[: _UMLAUT.index("€".encode()) + 2], (error("truncated_json"),)),
    Case("two_faults_on_two_lines", lines(b"{", GOOD, b"[1]"), (error("truncated_json", line=1),
         error("not_an_object", line=3))),
    Case("hundred_lines_of_prose", lines(*[b"Once upon a time there was a row."] * 200),
         (error("not_jsonl", line=None), *(error("invalid_json", line=line) for line in range(1, 101)))),
)  # fmt: skip

CLEAN = (
    Case("mark_first", b"\xef\xbb\xbf" + lines(GOOD, GOOD), ()),
    Case("carriage_return_line_feed", GOOD + b"\r\n" + GOOD + b"\r\n", ()),
    Case("no_last_line_end", lines(GOOD) + GOOD, ()),
    Case("blank_lines_last", lines(GOOD, GOOD) + b"\n\n\n", ()),
    Case("not_ascii", lines(_UMLAUT, _UMLAUT), ()),
)
"""Files that look odd and are right: nothing may be found in them."""
