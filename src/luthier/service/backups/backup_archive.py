"""The archive of a backup: a tar file whose last member is a manifest with the sha256 of every other one.

Any tar reads it. It is written beside its final name and renamed, so that it is whole or absent; one that was cut off
afterwards has no manifest.
"""

import hashlib
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from luthier.atomic_io import disk_full_as_no_space, fsync_path
from luthier.core.errors import Conflict, InvalidRequest, NoSpace, NotFound

MANIFEST = "manifest.json"
FORMAT = 1
_CHUNK_BYTES = 1 << 20
_MEMBER_BYTES = 1536
"""An upper bound for what tar adds to a file: its header, and padding to whole blocks."""

OnBytes = Callable[[int], object]
"""Called with the number of bytes that were read since the last call."""


class Entry(BaseModel):
    """A file of the archive: its name, its length, and the sha256 (hex) of its bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What an archive has. `created_at` is ISO 8601 in UTC, `schema_revision` the database's, `installation` its id.

    `missing` are names of what the data folder had lost already. Without `has_blobs` the bytes of files and checkpoints
    are in the object store of the service's settings, without `has_database` the rows are on a PostgreSQL server.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    luthier: str
    schema_revision: str
    created_at: str
    installation: str
    has_blobs: bool
    has_database: bool = True
    base_models: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    files: tuple[Entry, ...] = ()

    @property
    def total_bytes(self) -> int:
        return sum(entry.bytes for entry in self.files)


def size(sources: Sequence[tuple[str, Path]]) -> int:
    """About how many bytes an archive of these files will have, at most."""
    return sum(path.stat().st_size + _MEMBER_BYTES for _, path in sources) + len(sources) * 200


def write(path: Path, sources: Sequence[tuple[str, Path]], about: Manifest, on_bytes: OnBytes) -> Manifest:
    """Writes an archive (mode 0600) of files by name; returns its manifest, `about` with the files.

    Raises Conflict if there is such a file, NoSpace, before it begins if that can be known, and OSError; then nothing
    is left of it.
    """
    if path.exists():
        raise Conflict("backup_exists", f"{path} exists. Name another file; a backup never replaces one.")
    needed = size(sources)
    check_room(path.parent, needed)
    temporary = path.with_name(f".{path.name}.partial")
    temporary.unlink(missing_ok=True)
    try:
        with disk_full_as_no_space(path, needed), os.fdopen(_create(temporary), "wb") as stream:
            with tarfile.TarFile(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT, copybufsize=_CHUNK_BYTES) as tar:
                entries = tuple(_add(tar, name, source, on_bytes) for name, source in sources)
                manifest = about.model_copy(update={"files": entries})
                data = manifest.model_dump_json(indent=1).encode()
                tar.addfile(_member(MANIFEST, len(data)), BytesIO(data))
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(path)
        fsync_path(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return manifest


def read_manifest(path: Path) -> Manifest:
    """The manifest of an archive, whose other members are not read. Raises NotFound, InvalidRequest for what is no
    archive or is cut off, and Conflict for one of a newer version.
    """
    with _opened(path) as tar:
        data = b"".join(_chunks(tar, member) for member in tar.getmembers() if member.name == MANIFEST)
    if not data:
        raise _torn(path, "it has no manifest, which is its last part")
    try:
        fields = json.loads(data)
        written = int(fields["format"])
        if written <= FORMAT:
            return Manifest.model_validate(fields)
    except (ValueError, TypeError, KeyError, ValidationError) as error:
        raise _torn(path, "its manifest cannot be read") from error
    raise Conflict("newer_backup", f"{path} was made by a newer version of Luthier (format {written}). Install that.")


def extract(path: Path, manifest: Manifest, folder: Path | None, on_bytes: OnBytes) -> None:
    """Writes every file of an archive below a folder that exists, each compared with the manifest; None: only compares.

    Raises InvalidRequest at the first file that differs, is missing or has a name that leads out of the folder, and
    OSError.
    """
    left = {entry.path: entry for entry in manifest.files}
    with _opened(path) as tar:
        for member in tar:
            if member.name == MANIFEST:
                continue
            entry = left.pop(member.name, None)
            if entry is None or not member.isreg() or not _is_inside(entry.path):
                raise _torn(path, f"its manifest does not name {member.name[:100]!r}")
            target = None if folder is None else folder / entry.path
            if target is not None:
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _copied_sha256(tar, member, target, on_bytes) != entry.sha256:
                raise _torn(path, f"the bytes of {entry.path} are not those that were written")
    if left:
        raise _torn(path, f"{len(left)} of its files are missing")


def check_room(folder: Path, needed: int) -> None:
    """Raises NoSpace if a folder's file system has less room than needed, and OSError if there is no such folder."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        text = (
            f"{needed / 1e6:,.0f} MB are needed in {folder}, {free / 1e6:,.0f} MB are free. Make room, or name another."
        )
        raise NoSpace("disk_full", text)


class _Hashing:
    """A file that hashes and counts what is read of it."""

    def __init__(self, stream: IO[bytes], on_bytes: OnBytes) -> None:
        self.sha256 = hashlib.sha256()
        self._stream = stream
        self._on_bytes = on_bytes

    def read(self, n_bytes: int = -1) -> bytes:
        data = self._stream.read(n_bytes)
        self.sha256.update(data)
        self._on_bytes(len(data))
        return data


def _add(tar: tarfile.TarFile, name: str, source: Path, on_bytes: OnBytes) -> Entry:
    """Adds one file as it is now; what is appended to it meanwhile is left out."""
    with source.open("rb") as stream:
        length = os.fstat(stream.fileno()).st_size
        hashing = _Hashing(stream, on_bytes)
        tar.addfile(_member(name, length), cast(IO[bytes], hashing))
    return Entry(path=name, bytes=length, sha256=hashing.sha256.hexdigest())


def _member(name: str, length: int) -> tarfile.TarInfo:
    """A member's header: mode 0600, no owner and no time of this machine."""
    member = tarfile.TarInfo(name)
    member.size, member.mode = length, 0o600
    return member


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """The archive for reading. Raises NotFound, and InvalidRequest where it is no archive or is cut off."""
    try:
        with tarfile.open(path, "r:") as tar:
            yield tar
    except FileNotFoundError as error:
        if error.filename is not None and Path(os.fsdecode(error.filename)) == path:
            raise NotFound("no_backup", f"There is no file {path}.") from error
        raise
    except (tarfile.TarError, EOFError) as error:
        raise _torn(path, "it is no whole tar file") from error


def _chunks(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """All bytes of a small member."""
    stream = tar.extractfile(member)
    return b"" if stream is None else stream.read()


def _copied_sha256(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path | None, on_bytes: OnBytes) -> str:
    """The sha256 of a member, which is written to a new file (mode 0600) on the way. Raises tarfile.ReadError if its
    end is missing.
    """
    stream = tar.extractfile(member)
    assert stream is not None, "only regular files come here"
    hashing = _Hashing(stream, on_bytes)
    with os.fdopen(_create(target or Path(os.devnull)), "wb") as written:
        while chunk := hashing.read(_CHUNK_BYTES):
            written.write(chunk)
    return hashing.sha256.hexdigest()


def _create(path: Path) -> int:
    """The descriptor of a new file with mode 0600; /dev/null is opened as it is."""
    new = 0 if path == Path(os.devnull) else os.O_CREAT | os.O_EXCL
    return os.open(path, os.O_WRONLY | new, 0o600)


def _is_inside(name: str) -> bool:
    """Whether a name leads nowhere but below the folder."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts


def _torn(path: Path, reason: str) -> InvalidRequest:
    text = f"{path} is not a whole backup: {reason}. Nothing was restored. Use another backup."
    return InvalidRequest("backup_damaged", text)
