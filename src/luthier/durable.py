"""Writing so that a crash, a torn write or a full disk leaves the old bytes or the new ones, never half."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from luthier.core.errors import NoSpace

DISK_IS_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What writing says when there is no room: on the disk, in the user's quota, below the limit of a file's size."""


def write_durably(path: Path, data: bytes) -> None:
    """Replaces a file so that a crash leaves the old bytes or the new ones, on disk, never half. Raises NoSpace."""
    temporary = path.with_name(f".{path.name}.tmp")
    with room_for(path, len(data)):
        try:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        except OSError:
            temporary.unlink(missing_ok=True)  # what was written of it is in the way of everything else
            raise


def append_line(path: Path, line: bytes, *, durable: bool) -> None:
    """Appends a whole line or, where there is no room for it, nothing. Raises NoSpace."""
    with room_for(path, len(line)), path.open("ab", buffering=0) as stream:
        before = stream.tell()
        try:
            left = memoryview(line)
            while left:  # a disk that is almost full takes a part of a write, and says so by its length alone
                left = left[stream.write(left) :]
            if durable:
                os.fsync(stream.fileno())
        except OSError:
            stream.truncate(before)
            raise


@contextmanager
def room_for(path: Path, n_bytes: int | None = None) -> Iterator[None]:
    """Turns a full disk into a NoSpace that says where how much was to be written, if that is known."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_IS_FULL:
            raise
        raise NoSpace("disk_full", _no_room(path, n_bytes)) from error


def _no_room(path: Path, n_bytes: int | None) -> str:
    folder = next(parent for parent in path.parents if parent.exists())
    needs = "a file did not fit" if n_bytes is None else f"{path.name} needs {_size(n_bytes)}"
    return (
        f"The disk of {folder} is full: {needs}, {_size(shutil.disk_usage(folder).free)} are free. "
        "Make room there, or give LUTHIER_DATA_DIR a larger disk, and start again."
    )


def _size(n_bytes: int) -> str:
    if n_bytes < 10_000:
        return f"{n_bytes} bytes"
    return f"{n_bytes / 1e3:.0f} kB" if n_bytes < 10_000_000 else f"{n_bytes / 1e6:.0f} MB"


def make_folder(path: Path) -> None:
    """Makes a folder whose name is on disk; one that exists is left as it is."""
    if not path.is_dir():
        path.mkdir()
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Makes renames and new names inside a folder durable (fsync(2): a directory is synced by itself)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
