"""The blob store as shipped runs need it: a store that cannot be reached is Unavailable, a LuthierError."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from luthier.blobs import ObjectBlobs, StoreError
from luthier.core.errors import Unavailable
from luthier.core.ports import StoredBlob


class ObjectRunStore:
    """Implements run_directory.shipped_run.RunStore over the object store of the service's blobs."""

    def __init__(self, blobs: ObjectBlobs) -> None:
        self._blobs = blobs

    def put(self, key: str, chunks: Iterable[bytes]) -> object:
        with _unreachable_as_unavailable():
            return self._blobs.put(key, chunks)

    def put_new(self, key: str, data: bytes) -> bool:
        with _unreachable_as_unavailable():
            return self._blobs.put_new(key, data)

    def open(self, key: str) -> Iterator[bytes]:
        with _unreachable_as_unavailable():
            yield from self._blobs.open(key)

    def delete(self, key: str) -> None:
        with _unreachable_as_unavailable():
            self._blobs.delete(key)

    def stored(self, folder: str) -> Iterator[StoredBlob]:
        with _unreachable_as_unavailable():
            yield from self._blobs.stored(folder)


@contextmanager
def _unreachable_as_unavailable() -> Iterator[None]:
    """Raises the store's own errors as Unavailable, without their text: it may repeat a URL with a credential."""
    try:
        yield
    except FileNotFoundError:
        raise
    except StoreError as error:
        text = f"The object store of the runs cannot be used now ({type(error).__name__})."
        raise Unavailable("store_unavailable", text) from error
