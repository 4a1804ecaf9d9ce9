"""Imports of files that were deleted meanwhile: they are cancelled and leave nothing."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from luthier.core.states import FilePurpose
from luthier.service.context import Context
from luthier.service.files import files, url_imports
from luthier.service.files.url_imports import Importer
from luthier.service.tenants import resources
from luthier.store.queries import imports as import_rows


@dataclass
class Source:
    """What is fetched: some chunks, between the first two of which something happens."""

    happens: Callable[[], object]
    sent: list[bytes] = field(default_factory=list)

    def check(self, url: str) -> None:
        pass

    @contextmanager
    def get(self, url: str, max_bytes: int, max_seconds: float) -> Iterator[Iterator[bytes]]:
        yield self._chunks()

    def _chunks(self) -> Iterator[bytes]:
        for number in range(40):
            if number == 1:  # in a thread of its own: the store cannot be asked for anything while it takes a chunk
                happening = threading.Thread(target=self.happens)
                happening.start()
                happening.join()
            self.sent.append(b"x" * 2**20)
            yield self.sent[-1]


def delete_resource(context: Context, resource_id: str, file_id: str) -> None:
    resources.delete(context, "other", force=True)


def delete_file(context: Context, resource_id: str, file_id: str) -> None:
    files.delete(context, resource_id, file_id)


@pytest.mark.parametrize("end", [delete_resource, delete_file])
def test_import_of_a_deleted_file_is_cancelled(context: Context, end: Callable[[Context, str, str], None]) -> None:
    resource, _ = resources.create(context, "other", None, None)
    source = Source(lambda: end(context, resource.id, file.id))
    fetching = replace(context, fetcher=source)
    file = url_imports.create(fetching, resource.id, "a", FilePurpose.FINE_TUNE, "https://example.com/a")
    Importer(fetching).work()
    assert len(source.sent) == 2
    assert [blob.key for blob in context.blobs.stored("files")] == []
    with context.database.reading() as tx:
        assert import_rows.list_pending(tx) == []


def test_import_is_completed_despite_other_changes(context: Context) -> None:
    resource, _ = resources.create(context, "other", None, None)
    source = Source(lambda: resources.create(context, "another", None, None))
    fetching = replace(context, fetcher=source)
    file = url_imports.create(fetching, resource.id, "a", FilePurpose.FINE_TUNE, "https://example.com/a")
    Importer(fetching).work()
    assert files.get(context, resource.id, file.id).bytes == 40 * 2**20
