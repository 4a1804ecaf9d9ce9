"""The blob store, through obstore: a local folder by default; s3://, az://, gs:// and memory:// by URL."""

import asyncio
import hashlib
import os
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, Queue
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from luthier.atomic_io import DISK_IS_FULL, fsync_path
from luthier.core.errors import NoSpace
from luthier.core.ports import Blob, StoredBlob

CHUNK_BYTES = 8 * 1024 * 1024

StoreError = BaseError
"""What a store raises that is unreachable or denies access."""

_DISK_IS_FULL = re.compile(rf"\(os error ({'|'.join(map(str, sorted(DISK_IS_FULL)))})\)")
"""The end of the local store's message, the only place of the error number."""


_PARTIAL_PUT = re.compile(r".+#\d+")
"""The temporary files of obstore's puts into a local folder; no key of ours contains a #."""


class ObjectBlobs:
    """A BlobStore over any object store. A put is atomic: it becomes visible when it is complete.

    `folder` is the folder of a local store: a put is fsynced there before it returns. All keys are below `prefix`:
    other objects of the store are not accessible.
    """

    def __init__(self, store: ObjectStore, folder: Path | None = None, prefix: str = "") -> None:
        self._store = store
        self._folder = folder
        self._prefix = prefix

    def within(self, prefix: str) -> "ObjectBlobs":
        """The same store below a prefix; the empty one is the store itself."""
        return ObjectBlobs(self._store, self._folder, self._path(prefix) if prefix else self._prefix)

    def _path(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def put(self, key: str, chunks: Iterable[bytes]) -> Blob:
        digest = _Digest()
        length = 0

        def hashed_chunks() -> Iterator[bytes]:
            nonlocal length
            for chunk in chunks:
                digest.update(chunk)
                length += len(chunk)
                yield chunk

        try:
            with _reporting_full_disk(lambda: length):
                obstore.put(self._store, self._path(key), hashed_chunks(), use_multipart=True, chunk_size=CHUNK_BYTES)
        finally:
            sha256 = digest.finish()
        if self._folder is not None:
            _sync(self._folder / self._path(key), self._folder)
        return Blob(key, length, sha256)

    async def put_as_it_comes(self, key: str, chunks: AsyncIterator[bytes]) -> Blob:
        hashed = _Hashed(chunks)
        path = self._path(key)
        with _reporting_full_disk(lambda: hashed.length):
            await obstore.put_async(self._store, path, hashed, use_multipart=True, chunk_size=CHUNK_BYTES)
        if self._folder is not None:
            await asyncio.to_thread(_sync, self._folder / path, self._folder)
        return Blob(key, hashed.length, hashed.sha256.hexdigest())

    def open(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        if length == 0:
            return iter(())
        try:
            if length is not None:
                result = obstore.get(self._store, self._path(key), options={"range": (start, start + length)})
            else:
                result = obstore.get(
                    self._store, self._path(key), options={"range": {"offset": start}} if start else None
                )
        except (NotFoundError, FileNotFoundError) as error:
            raise FileNotFoundError(key) from error
        return (bytes(chunk) for chunk in result.stream(min_chunk_size=1024 * 1024))

    def join(self, key: str, parts: Sequence[str], on_chunk: Callable[[bytes], object]) -> Blob:
        def chunks() -> Iterator[bytes]:
            for part in parts:
                for chunk in self.open(part):
                    on_chunk(chunk)
                    yield chunk

        return self.put(key, _read_in_thread(chunks()))

    def delete(self, key: str) -> None:
        try:
            obstore.delete(self._store, self._path(key))
        except (NotFoundError, FileNotFoundError):
            return

    def move(self, key: str, to: str) -> None:
        try:
            obstore.rename(self._store, self._path(key), self._path(to))
        except (NotFoundError, FileNotFoundError) as error:
            raise FileNotFoundError(key) from error
        if self._folder is not None:
            _sync(self._folder / self._path(to), self._folder)

    def stored(self, folder: str) -> Iterator[StoredBlob]:
        prefix_length = len(self._path(""))
        for page in obstore.list(self._store, prefix=self._path(folder)):
            for entry in page:
                yield StoredBlob(entry["path"][prefix_length:], entry["size"], entry["last_modified"])

    def delete_partial_puts(self, folders: Iterable[str]) -> None:
        """Deletes the temporary files of puts that a kill interrupted, in these folders of a local store.

        Only for the sole writer: those of another process may be running puts. Other stores hide such parts.
        """
        for folder in folders if self._folder is not None else ():
            assert self._folder is not None
            for path in (self._folder / self._path(folder)).rglob("*#*"):
                if _PARTIAL_PUT.fullmatch(path.name) and path.is_file():
                    path.unlink()


@contextmanager
def _reporting_full_disk(length: Callable[[], int]) -> Iterator[None]:
    try:
        yield
    except BaseError as error:
        if _DISK_IS_FULL.search(str(error)) is None:
            raise
        text = f"The disk of the stored files is full: the {length()} bytes so far did not fit. Make room on it."
        raise NoSpace("disk_full", text) from error


class _Hashed:
    """The chunks, each hashed in a worker thread while it is stored.

    Not a generator: when a put is cancelled, the store may be awaiting the next chunk.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self.sha256 = hashlib.sha256()
        self.length = 0
        self._chunks = chunks
        self._hashing: asyncio.Future[None] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._hashing is not None:
            await self._hashing
            self._hashing = None
        chunk = await anext(self._chunks)
        self.length += len(chunk)
        self._hashing = asyncio.ensure_future(asyncio.to_thread(self.sha256.update, chunk))
        return chunk


class _Digest:
    """A sha256 in its own thread: hashing releases the GIL, so it runs in parallel to reading and writing."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._chunks: Queue[bytes | None] = Queue(maxsize=4)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def update(self, chunk: bytes) -> None:
        self._chunks.put(chunk)

    def finish(self) -> str:
        """The digest of all chunks; ends the thread."""
        self._chunks.put(None)
        self._thread.join()
        return self._sha256.hexdigest()

    def _run(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            self._sha256.update(chunk)


def _read_in_thread(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks, read in a thread of their own: obstore cannot read in the thread that it writes from."""
    read: Queue[bytes | BaseException | None] = Queue(maxsize=2)
    ended = threading.Event()

    def run() -> None:
        try:
            for chunk in chunks:
                read.put(chunk)
                if ended.is_set():
                    return
            read.put(None)
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer
            read.put(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while (item := read.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        ended.set()
        while thread.is_alive():  # it may be blocked on the full queue
            with suppress(Empty):
                read.get(timeout=0.01)
        thread.join()


def _sync(path: Path, root: Path) -> None:
    """Fsyncs a file and the folders above it up to `root`."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    while path != root:
        path = path.parent
        fsync_path(path)


def local(folder: Path) -> ObjectBlobs:
    """Blobs as plain files below a folder, which is created if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    return ObjectBlobs(LocalStore(folder, automatic_cleanup=True), folder)


def by_url(url: str) -> ObjectBlobs:
    """Blobs in the object store of a URL; credentials are from the environment, as for the store's own tools."""
    parts = urlsplit(url)
    if parts.scheme == "file":  # obstore itself does not fsync
        return local(Path(unquote(parts.path)))
    try:
        return ObjectBlobs(from_url(url))
    except (BaseError, ValueError):
        # Its message repeats the URL, which may contain a password.
        text = "LUTHIER_BLOBS_URL names no object store. It begins with s3://, az://, gs:// or file://."
        raise ValueError(text) from None
