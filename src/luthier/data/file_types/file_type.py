"""What a file is that holds no JSON lines, and a command that works on that very file to make it so.

Judged by the file's first bytes, and by all of it where it is short. In the words for the user, OLD stands for the file
and NEW for the copy.
"""

import codecs
import json
import re

from luthier.data.file_types import tabular, text_encoding, text_type
from luthier.data.file_types.text_type import FileType
from luthier.data.jsonl import json_documents, json_reader, python_literal
from luthier.data.jsonl.json_documents import Document
from luthier.data.jsonl.json_stream import ElementSplitter, Nesting, Unsplittable

SAMPLE_BYTES = 4096
"""So many bytes from the start of a file are enough to detect its type."""

_EXPORT = 'Export its rows as JSONL: on each line one object {"messages": [...]}.'
_PANDAS = "python3 -c \"import pandas; pandas.{}('OLD').to_json('NEW', orient='records', lines=True)\""
_EXCEL = f"Save the sheet as CSV (UTF-8), or export its rows: {_PANDAS.format('read_excel')}."
_ARROW = "Export its rows: python3 -c \"from datasets import Dataset; Dataset.from_file('OLD').to_json('NEW')\"."
_MAGIC = (
    (b"\x1f\x8b", "a gzip file", "Unpack it: gzip -dc < OLD > NEW."),
    (b"BZh", "a bzip2 file", "Unpack it: bzip2 -dc < OLD > NEW."),
    (b"\xfd7zXZ\0", "an xz file", "Unpack it: xz -dc < OLD > NEW."),
    (b"\x28\xb5\x2f\xfd", "a zstd file", "Unpack it: zstd -dc < OLD > NEW."),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip file", "Unpack it, and give the JSONL file inside: 7z x OLD."),
    (b"Rar!\x1a\x07", "a RAR file", "Unpack it, and give the JSONL file inside."),
    (b"PAR1", "a Parquet file", f"Export its rows: {_PANDAS.format('read_parquet')}."),
    (b"ARROW1", "an Arrow file", f"Export its rows: {_PANDAS.format('read_feather')}."),
    (b"FEA1", "a Feather file", f"Export its rows: {_PANDAS.format('read_feather')}."),
    (b"\xff\xff\xff\xff", "an Arrow stream, as datasets keeps it", _ARROW),
    (b"ORC", "an ORC file", f"Export its rows: {_PANDAS.format('read_orc')}."),
    (b"Obj\x01", "an Avro file", _EXPORT),
    (b"SQLite format 3\0", "an SQLite database", _EXPORT),
    (b"\x89HDF", "an HDF5 file", _EXPORT),
    (b"\x93NUMPY", "a NumPy file", _EXPORT),
    (b"GGUF", "a model's weights (GGUF)", _EXPORT),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel or Word file", _EXCEL),
    (b"{\\rtf", "an RTF document", "Save it as plain text, with one JSON object on each line."),
    (b"%PDF", "a PDF file", _EXPORT),
    (b"\x89PNG", "an image", _EXPORT),
    (b"GIF8", "an image", _EXPORT),
    (b"\xff\xd8\xff", "an image", _EXPORT),
)
_IN_ZIP = (
    (b"xl/", "an Excel file", _EXCEL),
    (b"oasis.opendocument.spreadsheet", "a LibreOffice spreadsheet (ODS)", _EXCEL),
    (b"word/", "a Word file", "Save it as plain text, with one JSON object on each line."),
    (b"Index/Document.iwa", "a Numbers file", "Export it as CSV (UTF-8)."),
    (b"data.pkl", "a PyTorch file", _EXPORT),
    (b"[Content_Types].xml", "an Office file", _EXCEL),
)
_UNZIP = "Unpack it, and give the JSONL file inside: unzip -p OLD > NEW."
_PYTHON = 'python3 -c "import ast, json, sys; [print(json.dumps(row)) for row in {}]" < OLD > NEW'
_PYTHON_LINES = _PYTHON.format("map(ast.literal_eval, filter(str.strip, sys.stdin))")
_PYTHON_LIST = _PYTHON.format("ast.literal_eval(sys.stdin.read())")
_CSV = (
    'python3 -c "import csv, json, sys; '
    "[print(json.dumps(row)) for row in csv.DictReader(sys.stdin, delimiter='{}')]\" < OLD > NEW"
)


def detect(start: bytes, document: bytes | None, first_code: str, n_lines: int) -> FileType | None:
    """The kind of a file that begins so; None for what may be JSON lines, or nothing known.

    `document` is all of it, None if it is too long; `first_code` the code of its first line's problem, "" for an object
    without one; `n_lines` how many lines were read.
    """
    if binary_type := detect_binary(start):
        return binary_type
    text = strip_bom(start)
    if text.startswith(b"["):
        return _array_lines(text, first_code, n_lines) or _document_type(document, "one JSON array", ".[]")
    if text.startswith(b"{"):
        return _objects_type(text, document, first_code, n_lines)
    if text.startswith(b'"') and first_code == "encoded_twice":
        return _converted("JSON lines that were encoded twice", "jq -c fromjson OLD > NEW")
    return detect_text(text.decode("utf-8", "replace"), len(start) < SAMPLE_BYTES)


def is_not_jsonl(start: bytes, first_code: str) -> bool:
    """Whether a file whose first line has this problem is certainly of another kind: reading can stop."""
    text = strip_bom(start)
    if first_code == "truncated_json" and (text.startswith(b"[") or is_spread(text)):
        return True
    return detect_binary(start) is not None or text_type.is_certain(text.decode("utf-8", "replace"))


def detect_binary(start: bytes) -> FileType | None:
    """The kind that the first bytes show: packed, binary, or text in UTF-16 or UTF-32; None for all else."""
    for magic, name, fix in _MAGIC:
        if start.startswith(magic):
            return FileType(name, fix)
    if start.startswith(b"PK\x03\x04"):
        names = ((name, fix) for inside, name, fix in _IN_ZIP if inside in start)
        return FileType(*next(names, ("a zip file", _UNZIP)))
    if start[257:262] == b"ustar":
        return FileType("a tar file", "Unpack it, and give the JSONL file inside: tar -xf OLD.")
    if encoding := text_encoding.detect_utf16_or_32(start):
        name = encoding[0].upper()
        name = name[:6] if encoding[1] else name.replace("-LE", "LE").replace("-BE", "BE")
        fix = f"Save it as UTF-8: luthier check OLD --fix NEW, or iconv -f {name} -t UTF-8 OLD > NEW."
        return FileType(f"text in {name}", fix, fixable=True)
    return None


def detect_text(text: str, is_complete: bool) -> FileType | None:
    """The kind of a text that begins with no bracket; None if not known. `is_complete`: the text does not go on."""
    if "\0" in text:
        return FileType("a binary file", _EXPORT)
    if file_type := text_type.detect(text):
        return file_type
    table = tabular.sniff(text, is_complete)
    if table is None:
        return None
    command = _CSV.format({"\t": "\\t"}.get(table.delimiter, table.delimiter))
    if table.keys is not None:
        return _converted(table.name, command)
    names = "prompt and completion, or messages"
    if table.header is None:
        return FileType(table.name, f"Write the names of its columns on the first line: {names}.")
    return FileType(table.name, f"Name its columns {names}; then luthier check OLD --fix NEW converts it.")


def strip_bom(start: bytes) -> bytes:
    """The bytes without a UTF-8 byte-order mark and blanks before the text."""
    return start.removeprefix(codecs.BOM_UTF8).lstrip()


def _converted(name: str, command: str, advice: str = "") -> FileType:
    """A FileType that `luthier check --fix` converts, with a shell command that does the same."""
    ways = f"luthier check OLD --fix NEW writes its rows as JSON lines; so does: {command}."
    return FileType(name, f"{ways} {advice}".rstrip(), fixable=True)


def _array_lines(text: bytes, first_code: str, n_lines: int) -> FileType | None:
    """The kind of a file whose lines are arrays of messages or of rows; None if its first line is no such array."""
    if n_lines < 2 or first_code != "not_an_object":
        return None
    value = json_reader.read(text.partition(b"\n")[0].decode("utf-8", "replace")).value
    if json_documents.are_turns(value):
        return _converted("arrays of messages, one on each line", "jq -c '{messages: .}' OLD > NEW")
    if json_documents.are_rows(value):
        return _converted("arrays of rows, one on each line", "jq -c '.[]' OLD > NEW")
    return None


def _objects_type(text: bytes, document: bytes | None, first_code: str, n_lines: int) -> FileType | None:
    """The kind of a file that begins with a brace, by its first line's problem; None for what may be JSON lines."""
    if first_code == "line_too_long" and json_documents.wrapper_key(text):
        return FileType(
            "one JSON object that holds the rows", "luthier check OLD --fix NEW writes them as lines.", True
        )
    if first_code == "single_quotes" and document is not None:
        first, _, other_lines = document.strip().partition(b"\n")
        if python_literal.read(first.decode("utf-8", "replace")) is not None:
            return _converted("lines of Python dicts, as print writes them", _PYTHON_LINES)
        return _python_type(document) if other_lines else None
    if first_code == "several_objects" and n_lines == 1:
        return _converted("JSON objects on end, without line ends between", "jq -c . OLD > NEW")
    if (first_code == "truncated_json" and (n_lines > 1 or is_spread(text))) or first_code == "":
        spread = None if first_code == "" else "JSON that is spread over several lines"
        return _document_type(document, spread, ".")
    return None


def _document_type(document: bytes | None, name: str | None, jq: str) -> FileType | None:
    """The kind of a file that may be one JSON document, by its layout; None for one that is a row.

    `name` and `jq` are for a document of no special layout; a `name` of None says that it may be a row.
    """
    if document is None:
        return (
            FileType(name, "luthier check OLD --fix NEW writes its rows as JSON lines.", fixable=True) if name else None
        )
    text = document.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        python = _python_type(document) if text[getattr(error, "pos", 0) :][:1] in "'NTF" else None
        return python or (_damaged_document(document, name, jq, error) if name else None)
    if layout := json_documents.recognise(value):
        return _layout_type(layout)
    return _converted(name, f"jq -c {jq} OLD > NEW") if name else None


def _layout_type(layout: Document) -> FileType:
    """A document's layout as a FileType: with its jq command, or advice alone where what to take is not certain."""
    if layout.jq is None:
        return FileType(layout.name, layout.advice)
    return _converted(layout.name, f"jq -c '{layout.jq}' OLD > NEW", layout.advice)


def _python_type(document: bytes) -> FileType | None:
    """The kind of a list as Python prints it; None for anything else."""
    value = python_literal.read(document.decode("utf-8", "replace"))
    if isinstance(value, list) and value:
        return _converted("a list that Python printed", _PYTHON_LIST)
    return None


def _damaged_document(document: bytes, name: str, jq: str, error: Exception) -> FileType:
    """The kind of a document that jq cannot read, with its fault: a comma, a missing bracket, its end cut off."""
    command = f"jq -c {jq if jq == '.' else repr(jq)} OLD > NEW"
    elements = ElementSplitter(Nesting.IN_ARRAY if jq == ".[]" else Nesting.TOP_LEVEL)
    try:
        for _ in elements.split([document]):
            pass
        notes = elements.faults
    except Unsplittable:
        notes = None
    if notes is not None and jq == "." and isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
        return _converted(name, command)
    if notes is not None and notes.comma_line:
        fix = f"luthier check OLD --fix NEW writes its rows as JSON lines; or remove the comma, then: {command}."
        return FileType(
            f"{name} with a comma before its ] on line {notes.comma_line}, where JSON allows none", fix, True
        )
    if notes is not None and notes.unclosed_line and not notes.cut_line:
        fix = f"luthier check OLD --fix NEW writes its rows as JSON lines; or write the ], then: {command}."
        return FileType(f"{name} whose ] is missing behind line {notes.unclosed_line}", fix, True)
    if notes is not None and notes.cut_line:
        fix = "Write the file again; luthier check OLD --fix NEW writes the rows before it as JSON lines."
        return FileType(f"{name}, cut off inside the row that begins on line {notes.cut_line}", fix, True)
    line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
    return FileType(f"{name} with a fault on line {line}", f"Fix that line; then run: {command}.")


def is_spread(text: bytes) -> bool:
    """Whether a text begins with one JSON object over several lines, cut off at most where the sample ends."""
    if not text.startswith(b"{") or text.count(b"\n") < 3:
        return False
    text = text[:SAMPLE_BYTES]
    reading = json_reader.read(re.sub(rb"[\x80-\xff]+$", b"", text).decode("utf-8", "replace"))
    return reading.complete or (
        bool(reading.faults) and reading.faults[-1].code in ("truncated_json", "several_objects")
    )
