"""File I/O: chunked reads; atomic writes, which a crash or a full disk leaves with the old bytes or the new ones.

Used by service, trainer and command line alike. A full disk is NoSpace; every other OSError is raised as it is.
"""

import errno
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from luthier.core.errors import NoSpace

logger = logging.getLogger(__name__)

DISK_IS_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What writing says when there is no room: on the disk, in the user's quota, below the limit of a file's size."""
_CHUNK_BYTES = 1 << 20


def read_chunks(path: Path) -> Iterator[bytes]:
    """Yields a file's bytes in chunks of at most 1 MiB; opens it at the first one. Raises OSError."""
    with path.open("rb") as stream:
        yield from stream_chunks(stream)


def stream_chunks(stream: BinaryIO) -> Iterator[bytes]:
    """Yields what is left of an open file in chunks of at most 1 MiB; leaves it open."""
    while chunk := stream.read(_CHUNK_BYTES):
        yield chunk


def write_durably(path: Path, data: bytes) -> None:
    """Replaces a file so that a crash leaves the old bytes or the new ones, on disk, never half.

    Writes `.NAME.tmp` beside it, syncs and renames. Raises NoSpace and other OSErrors, then with the temporary removed.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with disk_full_as_no_space(path, len(data)):
        try:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
            fsync_path(path.parent)
        except OSError:
            temporary.unlink(missing_ok=True)  # what was written of it is in the way of everything else
            raise


def append_line(path: Path, line: bytes, *, durable: bool) -> int:
    """Appends a whole line or, where there is no room for it, nothing. Raises NoSpace and other OSErrors.

    The file is created if needed; `durable` waits until the line is on disk. Returns where the line begins, in bytes:
    another process may append to the file at the same time (open(2): O_APPEND writes at the end of that moment).
    """
    with disk_full_as_no_space(path, len(line)), path.open("ab", buffering=0) as stream:
        before = stream.tell()
        try:
            left = memoryview(line)
            while left:  # a disk that is almost full takes a part of a write, and says so by its length alone
                left = left[stream.write(left) :]
            begin = stream.tell() - len(line)
            if durable:
                os.fsync(stream.fileno())
        except OSError:
            stream.truncate(before)
            raise
    return begin


@contextmanager
def disk_full_as_no_space(path: Path, n_bytes: int | None = None) -> Iterator[None]:
    """Turns a full disk inside the block into NoSpace, whose message says how much `path` needs, if that is known.

    It checks no free space beforehand. Users read the message, so it names no folder: that is logged.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_IS_FULL:
            raise
        folder = next(parent for parent in path.parents if parent.exists())
        logger.error("disk full folder=%s", folder)
        raise NoSpace("disk_full", _no_room(path, folder, n_bytes)) from error


def _no_room(path: Path, folder: Path, n_bytes: int | None) -> str:
    """The message of NoSpace, with the free bytes of the file system that holds `folder`."""
    needs = "a file did not fit" if n_bytes is None else f"{path.name} needs {_size(n_bytes)}"
    return (
        f"The disk is full: {needs}, {_size(shutil.disk_usage(folder).free)} are free. "
        "Make room there, or give LUTHIER_DATA_DIR a larger disk, and start again."
    )


def _size(n_bytes: int) -> str:
    """Bytes in a reader's unit: bytes, kB or MB (powers of 1000)."""
    if n_bytes < 10_000:
        return f"{n_bytes} bytes"
    return f"{n_bytes / 1e3:.0f} kB" if n_bytes < 10_000_000 else f"{n_bytes / 1e6:.0f} MB"


def make_folder(path: Path) -> None:
    """Makes a folder and syncs its parent; one that exists is left as it is. The parent must exist."""
    if not path.is_dir():
        path.mkdir()
        fsync_path(path.parent)


def fsync_path(path: Path) -> None:
    """Makes renames and new names inside a folder durable (fsync(2): a directory is synced by itself)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Syncs all files and folders below and including `folder`, before the rename that gives it its name.

    Symbolic links are not followed.
    """
    for parent, _, files in os.walk(folder):
        for name in files:
            path = Path(parent) / name
            if not path.is_symlink():
                fsync_path(path)  # fsync(2) takes files as it takes directories
        fsync_path(Path(parent))
