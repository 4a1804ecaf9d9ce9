"""One line of a training file corrected by hand: the line as it is, and a copy of the file with another line."""

from collections.abc import Iterator
from functools import partial
from pathlib import PurePath
from tempfile import TemporaryFile

from luthier.core import ids
from luthier.core.errors import InvalidRequest, LuthierError, NotFound, TooLarge
from luthier.core.models import File
from luthier.core.states import FilePurpose
from luthier.data.jsonl import line_reader
from luthier.data.jsonl.line_reader import Line
from luthier.service.context import Context
from luthier.service.files import files

MAX_FILE_BYTES = 32 * 1024 * 1024
MAX_LINE_BYTES = 256 * 1024
"""A form may have 1 MiB, and percent-encoding takes three bytes for one."""
_ENDING = "-edited.jsonl"
_CHUNK_BYTES = 1 << 20


def read_line(context: Context, file: File, number: int) -> str:
    """The text of a line, numbered from 1 with blank ones counted, without its end.

    Raises NotFound for a line that is not there or blank, TooLarge, and InvalidRequest for one that is no UTF-8 text.
    """
    for line in line_reader.read_lines(_content(context, file)):
        if line.number == number:
            return _text(line)
        if line.number > number:
            break
    raise _no_line(file, number)


def create_copy(context: Context, resource_id: str, file_id: str, number: int, text: str) -> File:
    """Stores a copy of a training file with `text` as its line `number`, without that line if it is empty.

    Line breaks in `text` become blanks: a row is one line. The old file stays as it is. Raises as `read_line`, NoSpace
    and QuotaExceeded.
    """
    file = files.get(context, resource_id, file_id)
    files.check_trainable(file, "file_id")
    read_line(context, file, number)
    row = " ".join(text.split("\n")).replace("\r", "").strip().encode()
    key = files.blob_key(ids.file_id(context.new_hex()))
    # The copy waits in a file of no name: a blob store cannot read one blob in the midst of writing another.
    with TemporaryFile(dir=context.data_folder) as copy:
        copy.writelines(files.limited(_copied(context, file, number, row)))
        copy.seek(0)
        blob = context.blobs.put(key, iter(partial(copy.read, _CHUNK_BYTES), b""))
    try:
        return files.create(context, resource_id, _name(file.filename), FilePurpose.FINE_TUNE, blob)
    except LuthierError:
        files.discard(context, blob)
        raise


def _copied(context: Context, file: File, number: int, row: bytes) -> Iterator[bytes]:
    """The lines of the copy; blank ones keep their place, so that the other lines keep their numbers."""
    for line in line_reader.read_lines(_content(context, file)):
        yield b"\n" * line.blanks_before
        if line.number != number:
            yield line.content + b"\n"
        elif row:
            yield row + b"\n"


def _content(context: Context, file: File) -> Iterator[bytes]:
    """The file's bytes. Raises TooLarge for a file that is not edited here."""
    if file.bytes > MAX_FILE_BYTES:
        text = f"{file.filename} is larger than {MAX_FILE_BYTES // 2**20} MiB: correct your copy and upload that."
        raise TooLarge("file_too_large_to_edit", text, "file_id")
    return files.content(context, file)


def _text(line: Line) -> str:
    """The line as text. Raises TooLarge and InvalidRequest."""
    if len(line.content) > MAX_LINE_BYTES:
        text = f"Line {line.number} is longer than {MAX_LINE_BYTES // 1024} KiB: correct your copy and upload that."
        raise TooLarge("line_too_long_to_edit", text, "line")
    try:
        return line.content.decode()
    except UnicodeDecodeError:
        text = f"Line {line.number} is no UTF-8 text, so it cannot be edited here: save the file as UTF-8 first."
        raise InvalidRequest("not_utf8", text, "line") from None


def _no_line(file: File, number: int) -> NotFound:
    return NotFound("line_not_found", f"{file.filename} has no line {number} with a row.", "line")


def _name(filename: str) -> str:
    """The name of the copy, not longer than a name may be."""
    stem = PurePath(filename).stem.removesuffix("-edited") or "file"
    return stem[: files.MAX_FILENAME_CHARACTERS - len(_ENDING)] + _ENDING
