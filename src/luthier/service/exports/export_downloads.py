"""The bytes of an export's files: a part of one, or all of them as an uncompressed tar, read as they are sent."""

import tarfile
from collections.abc import Iterator

from luthier.core.errors import NotFound
from luthier.core.exports import Export, ExportFile
from luthier.service.context import Context
from luthier.service.exports import export_records

_CHUNK_BYTES = 1 << 20
_BLOCK = 512
_END = bytes(2 * _BLOCK)


def read_file(context: Context, export: Export, file: ExportFile, start: int, length: int) -> Iterator[bytes]:
    """`length` bytes of a file from `start`, in chunks. Opens it now: raises NotFound if it was deleted meanwhile.

    A file that is deleted later is read to its end.
    """
    path = export_records.folder(context, export.id) / export_records.FILES / file.name
    try:
        stream = path.open("rb")
    except FileNotFoundError as error:
        raise NotFound("export_not_found", "This export was deleted.") from error

    def chunks() -> Iterator[bytes]:
        """The bytes; closes the file at its end, or when nobody wants more."""
        with stream:
            stream.seek(start)
            left = length
            while left:
                chunk = stream.read(min(_CHUNK_BYTES, left))
                if not chunk:
                    raise OSError("the file of an export is shorter than it was")
                left -= len(chunk)
                yield chunk

    return chunks()


def tar_bytes(export: Export) -> int:
    """The length of `read_tar`."""
    assert export.result is not None
    return sum(_BLOCK + file.bytes + -file.bytes % _BLOCK for file in export.result.files) + len(_END)


def read_tar(context: Context, export: Export) -> Iterator[bytes]:
    """All files in a folder of the export's id, as a tar; equal files give equal bytes. Raises NotFound as it goes."""
    assert export.result is not None
    for file in export.result.files:
        member = tarfile.TarInfo(f"{export.id}/{file.name}")
        member.size, member.mode = file.bytes, 0o644
        yield member.tobuf(tarfile.GNU_FORMAT)
        yield from read_file(context, export, file, 0, file.bytes)
        yield bytes(-file.bytes % _BLOCK)
    yield _END
