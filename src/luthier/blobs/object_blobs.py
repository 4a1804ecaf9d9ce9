"""The port `core.ports.BlobStore` over obstore: one implementation for every kind of store.

Keys are relative paths of ids.
"""

import asyncio
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from luthier.atomic_io import DISK_IS_FULL, fsync_path
from luthier.blobs import s3_uploads
from luthier.blobs.chunk_streams import Begun, BegunAsItComes, Digest, HashedChunks, read_in_thread
from luthier.core.errors import NoSpace
from luthier.core.ports import Blob, StoredBlob

logger = logging.getLogger(__name__)

CHUNK_BYTES = 8 * 1024 * 1024

StoreError = BaseError
"""What a store raises that is unreachable or denies access."""

_DISK_IS_FULL = re.compile(rf"\(os error ({'|'.join(map(str, sorted(DISK_IS_FULL)))})\)")
"""The end of the local store's message, the only place of the error number."""


_PARTIAL_PUT = re.compile(r".+#\d+")
"""The temporary files of obstore's puts into a local folder; no key of ours contains a #."""


class ObjectBlobs:
    """A BlobStore over any object store. A put is atomic: it becomes visible when it is complete.

    One request stores what fits into CHUNK_BYTES; more is a multipart upload with parts of that size.

    `folder` is the folder of a local store: a put is fsynced there before it returns. All keys are below `prefix`:
    other objects of the store are not accessible. Methods raise StoreError where a store is unreachable or denies
    access.
    """

    def __init__(self, store: ObjectStore, folder: Path | None = None, prefix: str = "") -> None:
        self._store = store
        self._folder = folder
        self._prefix = prefix

    def within(self, prefix: str) -> "ObjectBlobs":
        """The same store with keys below a further prefix; an empty one adds nothing. Nothing is read or created."""
        return ObjectBlobs(self._store, self._folder, self._path(prefix) if prefix else self._prefix)

    @property
    def prefix(self) -> str:
        """What stands before all keys in the store; empty for none."""
        return self._prefix

    def _path(self, key: str) -> str:
        """The store's own name of a key."""
        return f"{self._prefix}/{key}" if self._prefix else key

    def put(self, key: str, chunks: Iterable[bytes]) -> Blob:
        """Stores the chunks under a key, in place of what it had; hashes them in a thread beside the writing.

        Blocks. Raises NoSpace and StoreError; then, and after an error of the chunks, nothing is stored.
        """
        digest = Digest()
        length = 0

        def hashed_chunks() -> Iterator[bytes]:
            """Passes the chunks on to the store and counts and hashes them on the way."""
            nonlocal length
            for chunk in chunks:
                digest.update(chunk)
                length += len(chunk)
                yield chunk

        try:
            with _disk_full_as_no_space(lambda: length):
                begun = Begun(hashed_chunks(), CHUNK_BYTES)
                if begun.is_all:
                    obstore.put(self._store, self._path(key), begun.data(), use_multipart=False)
                else:
                    obstore.put(self._store, self._path(key), begun, use_multipart=True, chunk_size=CHUNK_BYTES)
        finally:
            sha256 = digest.finish()
        if self._folder is not None:
            _sync(self._folder / self._path(key), self._folder)
        return Blob(key, length, sha256)

    def put_new(self, key: str, data: bytes) -> bool:
        """Stores bytes under a key that has none, atomically; False, and nothing stored, if it has (a conditional put).

        Raises NoSpace and StoreError. The bytes are sent at once: it is for small objects.
        """
        try:
            with _disk_full_as_no_space(lambda: 0):
                obstore.put(self._store, self._path(key), data, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        if self._folder is not None:
            _sync(self._folder / self._path(key), self._folder)
        return True

    async def put_as_it_comes(self, key: str, chunks: AsyncIterator[bytes]) -> Blob:
        """As `put`, on the event loop: hashing and fsync run in worker threads, one chunk is in memory per put."""
        hashed = HashedChunks(chunks)
        path = self._path(key)
        with _disk_full_as_no_space(lambda: hashed.length):
            begun = await BegunAsItComes.of(hashed, CHUNK_BYTES)
            if begun.is_all:
                await obstore.put_async(self._store, path, begun.data(), use_multipart=False)
            else:
                await obstore.put_async(self._store, path, begun, use_multipart=True, chunk_size=CHUNK_BYTES)
        if self._folder is not None:
            await asyncio.to_thread(_sync, self._folder / path, self._folder)
        return Blob(key, hashed.length, hashed.sha256.hexdigest())

    def open(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Requests the bytes at once and gives them in chunks of at least 1 MiB, but for the last one.

        Empty for a length of 0; `length` None: up to the end. Raises FileNotFoundError with the key, StoreError for
        other failures, also at a chunk.
        """
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
        """Stores the bytes of `parts`, one after another, as one blob; the parts stay. A thread reads while it writes.

        `on_chunk` is called in that thread. Raises FileNotFoundError for a part that is missing, NoSpace and
        StoreError.
        """

        def chunks() -> Iterator[bytes]:
            """Reads the parts one after another and shows each chunk to `on_chunk`."""
            for part in parts:
                for chunk in self.open(part):
                    on_chunk(chunk)
                    yield chunk

        return self.put(key, read_in_thread(chunks()))

    def delete(self, key: str) -> None:
        """Deletes the blob; one that is not there is no error. Raises StoreError."""
        try:
            obstore.delete(self._store, self._path(key))
        except (NotFoundError, FileNotFoundError):
            return

    def move(self, key: str, to: str) -> None:
        """Renames a blob within the store; the new key must be free. Raises FileNotFoundError for no such key."""
        try:
            obstore.rename(self._store, self._path(key), self._path(to))
        except (NotFoundError, FileNotFoundError) as error:
            raise FileNotFoundError(key) from error
        if self._folder is not None:
            _sync(self._folder / self._path(to), self._folder)

    def stored(self, folder: str) -> Iterator[StoredBlob]:
        """Every blob below a folder, page by page; none if there is no such folder. Keys are without the prefix."""
        prefix_length = len(self._path(""))
        for page in obstore.list(self._store, prefix=self._path(folder)):
            for entry in page:
                yield StoredBlob(entry["path"][prefix_length:], entry["size"], entry["last_modified"])

    @property
    def can_sign(self) -> bool:
        """Whether the kind of store has signed URLs; whether its credentials can sign one is found out by signing."""
        return isinstance(self._store, S3Store | AzureStore | GCSStore)

    def signed_url(self, key: str, lifetime: timedelta) -> str:
        """A URL by which anybody can GET the blob, which is not looked for, until `lifetime` is over: a secret.

        May ask the store's provider of credentials. Raises StoreError if they cannot sign. Only if `can_sign`.
        """
        assert isinstance(self._store, S3Store | AzureStore | GCSStore)
        return obstore.sign(self._store, "GET", self._path(key), lifetime)

    def abort_partial_puts(self, began_before: datetime) -> int:
        """Ends the multipart uploads below the prefix that began before, of S3; returns how many.

        A store that refuses is logged, and nothing ended. Of others nothing: Azure forgets them after a week, GCS by a
        rule of the bucket, a folder shows its own to `delete_partial_puts`. Nor in a store that is used from its root:
        others may put there.
        """
        if not isinstance(self._store, S3Store) or not self._prefix:
            return 0
        try:
            count = s3_uploads.abort(self._store, self._prefix, began_before)
        except (BaseError, FileNotFoundError, ValueError) as error:
            logger.warning("unfinished uploads in the store not looked for: %s", reason(error))
            return 0
        if count:
            logger.warning("unfinished uploads in the store aborted count=%d", count)
        return count

    def delete_partial_puts(self, folders: Iterable[str]) -> None:
        """Deletes the temporary files of puts that a kill interrupted, in these folders of a local store.

        Only for the sole writer: those of another process may be running puts. Other stores hide such parts.
        """
        for folder in folders if self._folder is not None else ():
            assert self._folder is not None
            for path in (self._folder / self._path(folder)).rglob("*#*"):
                if _PARTIAL_PUT.fullmatch(path.name) and path.is_file():
                    path.unlink()


def reason(error: Exception) -> str:
    """The first line of a store's message, without its URLs, which may contain a credential, and without what the
    store's server wrote (XML, which may name the key); 200 characters at most.
    """
    line = str(error).partition("<")[0].partition("\n")[0]
    return re.sub(r"\S*://\S+", "(its URL)", line)[:200]


@contextmanager
def _disk_full_as_no_space(length: Callable[[], int]) -> Iterator[None]:
    """Raises a store's error about a full disk as NoSpace, with the bytes so far by `length`; others as they are."""
    try:
        yield
    except BaseError as error:
        if _DISK_IS_FULL.search(str(error)) is None:
            raise
        text = f"The disk of the stored files is full: the {length()} bytes so far did not fit. Make room on it."
        raise NoSpace("disk_full", text) from error


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
