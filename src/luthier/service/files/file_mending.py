"""A mended copy of an uploaded file: what it would change, and the copy as a new file. The old one stays as it is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from tempfile import TemporaryFile

from luthier.core import ids
from luthier.core.errors import InvalidRequest, LuthierError
from luthier.core.models import File
from luthier.core.states import FilePurpose
from luthier.data.checks.validate import Report
from luthier.data.problems import problem_groups
from luthier.data.repair import file_repair
from luthier.data.repair.file_repair import FileRepair, Unrepairable
from luthier.service.context import Context
from luthier.service.files import data_check, files
from luthier.service.files.data_check import Rules

MAX_PREVIEWED_BYTES = 16 * 1024 * 1024
TOO_LARGE = (
    f"The file is larger than {MAX_PREVIEWED_BYTES // 2**20} MiB: run `luthier check OLD --fix NEW` on your copy."
)
_ENDING = "-mended.jsonl"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Change:
    """One kind of change: what is done, where ("lines 3, 7-9", "the whole file"), and on how many lines."""

    text: str
    where: str
    n_lines: int


@dataclass(frozen=True, slots=True)
class Mending:
    """What a mended copy would be: its changes and the report on it; or why there can be none, as a sentence."""

    changes: tuple[Change, ...]
    after: Report
    why_not: str = ""


def preview(context: Context, file: File, rules: Rules) -> Mending:
    """What mending would change; nothing is stored. The copy is checked as training data."""
    try:
        repair, lines = _mended(context, file)
        after = data_check.check_training(lines, rules).report
    except Unrepairable as error:
        return Mending((), Report((), 0, 0, 0), str(error))
    return Mending(tuple(_changes(repair)), after)


def create(context: Context, resource_id: str, file_id: str) -> File:
    """Stores the mended copy of a training file as a new file beside it, and returns that.

    Raises NotFound, InvalidRequest for a file that cannot be mended, NoSpace and QuotaExceeded.
    """
    file = files.get(context, resource_id, file_id)
    files.check_trainable(file, "training_file")
    key = files.blob_key(ids.file_id(context.new_hex()))
    # The copy waits in a file of no name: a blob store cannot read one blob in the midst of writing another.
    with TemporaryFile(dir=context.data_folder) as copy:
        try:
            copy.writelines(files.limited(_mended(context, file)[1]))
        except Unrepairable as error:
            raise InvalidRequest("file_not_mendable", f"{file.filename}: {error}", "training_file") from None
        copy.seek(0)
        blob = context.blobs.put(key, iter(partial(copy.read, _CHUNK_BYTES), b""))
    try:
        return files.create(context, resource_id, _name(file.filename), FilePurpose.FINE_TUNE, blob)
    except LuthierError:
        files.discard(context, blob)
        raise


def _mended(context: Context, file: File) -> tuple[FileRepair, Iterator[bytes]]:
    """The repair and the lines of the copy, which are made as they are read. Raises Unrepairable, also while they are
    read.
    """
    repair = FileRepair(file_repair.detect_encoding(files.content(context, file)))
    return repair, repair.lines(files.content(context, file))


def _changes(repair: FileRepair) -> Iterable[Change]:
    """The changes of a repair that has been read to its end, by kind."""
    for code, numbers in repair.changes.items():
        lines = sorted(set(numbers))
        is_whole = code in file_repair.FILE_CHANGES
        where = "the whole file" if is_whole else f"line {problem_groups.format_lines(lines, 6)}"
        yield Change(file_repair.change_text(code), where, len(lines))


def _name(filename: str) -> str:
    """The name of the copy, not longer than a name may be."""
    stem = PurePath(filename).stem.removesuffix("-mended") or "file"
    return stem[: files.MAX_FILENAME_CHARACTERS - len(_ENDING)] + _ENDING
