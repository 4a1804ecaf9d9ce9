"""Imports: a file whose content is fetched from a URL by background workers, across restarts."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from luthier.core import ids
from luthier.core.errors import LuthierError, QuotaExceeded
from luthier.core.models import File, FileImport
from luthier.core.ports import Blob
from luthier.core.quotas import MAX_FILE_BYTES
from luthier.core.states import FilePurpose, FileStatus
from luthier.service import shutdown
from luthier.service.context import Context
from luthier.service.files import files as file_service
from luthier.service.shutdown import Stopped
from luthier.service.tenants import quotas
from luthier.store.queries import files, imports

logger = logging.getLogger(__name__)

MAX_SECONDS = 1800.0
"""For one fetch: 512 MiB at 0.3 MB/s."""


def create(
    context: Context,
    resource_id: str,
    filename: str,
    purpose: FilePurpose,
    content_url: str,
    expires_after_s: int | None = None,
) -> File:
    """Creates a pending file; an Importer fetches its content later.

    Raises InvalidRequest for the name and for a URL that is not allowed, and QuotaExceeded.
    """
    file_service.check_filename(filename, "filename")
    context.fetcher.check(content_url)
    now = context.now()
    file = File(
        id=ids.file_id(context.new_hex()),
        resource_id=resource_id,
        filename=filename,
        purpose=purpose,
        bytes=0,
        sha256="",
        status=FileStatus.PENDING,
        status_details=None,
        created_at=now,
        expires_at=None
        if expires_after_s is None
        else context.lifetime_start(now) + timedelta(seconds=expires_after_s),
    )
    with context.database.writing() as tx:
        quotas.admit_file(tx, resource_id, 0)
        files.insert_file(tx, file)
        imports.insert_import(tx, FileImport(file.id, resource_id, content_url))
    logger.info("import created file=%s resource=%s", file.id, resource_id)
    return file


@dataclass(slots=True)
class Importer:
    """Fetches pending imports, each in one of the threads that call `work`; an interrupted one starts again.

    `stopping` returns True once the service stops.
    """

    context: Context
    stopping: Callable[[], bool] = shutdown.never
    _taken: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def work(self) -> None:
        """Fetches until every pending import is done or taken by another thread, or the service stops."""
        while not self.stopping() and (pending := self._take()) is not None:
            try:
                _run(self.context, pending, self.stopping)
            finally:
                with self._lock:
                    self._taken.discard(pending.file_id)

    def _take(self) -> FileImport | None:
        """A pending import that no thread has, marked as taken by this one; None if there is none."""
        with self._lock:
            with self.context.database.reading() as tx:
                waiting = imports.list_pending(tx)
            free = next((pending for pending in waiting if pending.file_id not in self._taken), None)
            if free is not None:
                self._taken.add(free.file_id)
            return free


def _run(context: Context, pending: FileImport, stopping: Callable[[], bool]) -> None:
    """Fetches one import into the blob of its file and ends it; an error becomes the file's status and details.

    Nothing is kept of a deleted file; at a stop of the service the import stays pending for the next start.
    """
    key = file_service.blob_key(pending.file_id)
    try:
        with context.fetcher.get(pending.content_url, MAX_FILE_BYTES, MAX_SECONDS) as chunks:
            wanted = _while_pending(context, pending, shutdown.until(stopping, chunks))
            blob = context.blobs.put(key, file_service.limited(wanted))
    except _Deleted:
        logger.info("import broken off file=%s", pending.file_id)
    except Stopped:
        logger.info("import interrupted by a stop file=%s", pending.file_id)
    except LuthierError as error:
        logger.info("import failed file=%s code=%s", pending.file_id, error.code)
        _end(context, pending, Blob(key, 0, ""), FileStatus.ERROR, error.message)
    except Exception:
        # The import must end for its caller whatever the error was; the log has it.
        logger.exception("import failed file=%s", pending.file_id)
        _end(context, pending, Blob(key, 0, ""), FileStatus.ERROR, "The service could not import the file.")
    else:
        try:
            _end(context, pending, blob, FileStatus.PROCESSED, None)
        except QuotaExceeded as error:
            context.blobs.delete(key)
            _end(context, pending, Blob(key, 0, ""), FileStatus.ERROR, error.message)


class _Deleted(Exception):
    """The file was deleted meanwhile."""


def _while_pending(context: Context, pending: FileImport, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Passes the chunks on; checks again after each change of the database.

    Raises _Deleted once the file or its resource is deleted.
    """
    checked_version = -1
    for chunk in chunks:
        version = context.database.version()
        if version != checked_version:
            with context.database.reading() as tx:
                if not imports.is_pending(tx, pending.file_id):
                    raise _Deleted
            checked_version = version
        yield chunk


def _end(context: Context, pending: FileImport, blob: Blob, status: FileStatus, details: str | None) -> None:
    """Writes the end of an import to its file, and deletes the import with its URL; the blob goes if the file is gone.

    Raises QuotaExceeded for bytes beyond the quota, and then writes nothing.
    """
    with context.database.writing() as tx:
        if blob.bytes:  # a failed import must end even if the limit was lowered below the usage
            quotas.admit_bytes(tx, pending.resource_id, blob.bytes)
        exists = files.end_import(tx, pending.file_id, status, details, blob.bytes, blob.sha256)
        imports.delete(tx, pending.file_id)
    if not exists:  # deleted or expired meanwhile
        context.blobs.delete(blob.key)
    logger.info("import ended file=%s status=%s bytes=%d exists=%s", pending.file_id, status, blob.bytes, exists)
