"""Bytes by key, through obstore: a local folder by default; s3://, az://, gs:// and memory:// by their URL."""

import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from queue import Empty, Queue

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from luthier.core.errors import NoSpace
from luthier.core.ports import Blob
from luthier.durable import DISK_IS_FULL, sync_folder

CHUNK_BYTES = 8 * 1024 * 1024

_DISK_IS_FULL = re.compile(rf"\(os error ({'|'.join(map(str, sorted(DISK_IS_FULL)))})\)")
"""How the store of local files ends its message; it tells the number in no other way."""


class ObjectBlobs:
    """A BlobStore over any object store. A put becomes visible when it is whole, never before.

    `folder` is where a local store keeps its files: bytes are on the disk there before a put returns.
    """

    def __init__(self, store: ObjectStore, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder

    def put(self, key: str, chunks: Iterable[bytes]) -> Blob:
        digest = _Digest()
        length = 0

        def counted() -> Iterator[bytes]:
            nonlocal length
            for chunk in chunks:
                digest.update(chunk)
                length += len(chunk)
                yield chunk

        try:
            obstore.put(self._store, key, counted(), use_multipart=True, chunk_size=CHUNK_BYTES)
        except BaseError as error:
            if _DISK_IS_FULL.search(str(error)) is None:
                raise
            text = f"The disk of the stored files is full: the {length} bytes at hand did not fit. Make room on it."
            raise NoSpace("disk_full", text) from error
        finally:
            sha256 = digest.end()
        if self._folder is not None:
            _sync(self._folder / key, self._folder)
        return Blob(key, length, sha256)

    def open(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        if length == 0:
            return iter(())
        try:
            if length is not None:
                found = obstore.get(self._store, key, options={"range": (start, start + length)})
            else:
                found = obstore.get(self._store, key, options={"range": {"offset": start}} if start else None)
        except (NotFoundError, FileNotFoundError) as error:
            raise FileNotFoundError(key) from error
        return (bytes(chunk) for chunk in found.stream(min_chunk_size=1024 * 1024))

    def join(self, key: str, parts: Sequence[str], on_chunk: Callable[[bytes], object]) -> Blob:
        def chunks() -> Iterator[bytes]:
            for part in parts:
                for chunk in self.open(part):
                    on_chunk(chunk)
                    yield chunk

        return self.put(key, _read_elsewhere(chunks()))

    def delete(self, key: str) -> None:
        try:
            obstore.delete(self._store, key)
        except (NotFoundError, FileNotFoundError):
            return

    def keys(self, folder: str) -> Iterator[tuple[str, datetime]]:
        for some in obstore.list(self._store, prefix=folder):
            yield from ((entry["path"], entry["last_modified"]) for entry in some)


class _Digest:
    """A sha256 in a thread of its own: it needs no interpreter, so it runs beside whoever reads and writes."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._chunks: Queue[bytes | None] = Queue(maxsize=4)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def update(self, chunk: bytes) -> None:
        self._chunks.put(chunk)

    def end(self) -> str:
        """The digest of all that was given; ends the thread."""
        self._chunks.put(None)
        self._thread.join()
        return self._sha256.hexdigest()

    def _run(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            self._sha256.update(chunk)


def _read_elsewhere(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks, read in a thread of their own: obstore cannot read in the one in which it asks for bytes."""
    read: Queue[bytes | BaseException | None] = Queue(maxsize=2)
    ended = threading.Event()

    def run() -> None:
        try:
            for chunk in chunks:
                read.put(chunk)
                if ended.is_set():
                    return
            read.put(None)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is raised where the chunks are wanted
            read.put(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while (found := read.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        ended.set()
        while thread.is_alive():  # it may wait for room that nobody would make any more
            with suppress(Empty):
                read.get(timeout=0.01)
        thread.join()


def _sync(path: Path, root: Path) -> None:
    """Has a file be on disk, with its name and the names of the folders on the way to it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    while path != root:
        path = path.parent
        sync_folder(path)


def local(folder: Path, *, alone: bool = True) -> ObjectBlobs:
    """Blobs as plain files below a folder. Where this process is alone with it, puts that a kill cut short are cleared.

    Beside a service that runs they may be uploads under way, and stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for part in folder.rglob("*#*") if alone else ():  # where obstore writes until a put is whole; no key holds a #
        part.unlink()
    return ObjectBlobs(LocalStore(folder, automatic_cleanup=True), folder)


def by_url(url: str) -> ObjectBlobs:
    """Blobs in the object store that a URL names; credentials come from the environment, as its own tools take them."""
    return ObjectBlobs(from_url(url))
