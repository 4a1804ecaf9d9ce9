"""Imports: a file whose content is fetched from a URL, by workers that a restart does not stop."""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from luthier.core import ids
from luthier.core.errors import LuthierError, QuotaExceeded
from luthier.core.models import File, FileImport
from luthier.core.ports import Blob
from luthier.core.states import FilePurpose, FileStatus
from luthier.service import files as file_service
from luthier.service import quotas
from luthier.service.context import Context
from luthier.store import files, imports

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
    """Makes a pending file; an Importer fetches its content. Raises InvalidRequest for a URL that never could be."""
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
        expires_at=None if expires_after_s is None else now + timedelta(seconds=expires_after_s),
    )
    with context.database.writing() as tx:
        quotas.admit_file(tx, resource_id, 0)
        files.insert_file(tx, file)
        imports.insert_import(tx, FileImport(file.id, resource_id, content_url))
    logger.info("import created file=%s resource=%s", file.id, resource_id)
    return file


@dataclass(slots=True)
class Importer:
    """Fetches what is pending, each by one of the threads that call `work`; what a stop broke off starts again."""

    context: Context
    stopping: Callable[[], bool] = lambda: False
    _taken: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def work(self) -> None:
        """Fetches until nothing is pending that no other thread has."""
        while not self.stopping() and (pending := self._take()) is not None:
            try:
                _run(self.context, pending, self.stopping)
            finally:
                with self._lock:
                    self._taken.discard(pending.file_id)

    def _take(self) -> FileImport | None:
        with self._lock:
            with self.context.database.reading() as tx:
                waiting = imports.list_pending(tx)
            found = next((pending for pending in waiting if pending.file_id not in self._taken), None)
            if found is not None:
                self._taken.add(found.file_id)
            return found


class _Stopped(Exception):
    """The service ends; the import is taken up again at its next start."""


def _run(context: Context, pending: FileImport, stopping: Callable[[], bool]) -> None:
    def until_stopped(chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if stopping():
                raise _Stopped
            yield chunk

    key = file_service.blob_key(pending.file_id)
    try:
        with context.fetcher.get(pending.content_url, file_service.MAX_FILE_BYTES, MAX_SECONDS) as chunks:
            blob = context.blobs.put(key, file_service.capped(until_stopped(chunks)))
    except _Stopped:
        logger.info("import left for the next start file=%s", pending.file_id)
    except LuthierError as error:
        logger.info("import failed file=%s code=%s", pending.file_id, error.code)
        _end(context, pending, Blob(key, 0, ""), FileStatus.ERROR, error.message)
    except Exception:
        # Whatever it was, the caller must see an end, and the log has the reason.
        logger.exception("import failed file=%s", pending.file_id)
        _end(context, pending, Blob(key, 0, ""), FileStatus.ERROR, "The service could not import the file.")
    else:
        try:
            _end(context, pending, blob, FileStatus.PROCESSED, None)
        except QuotaExceeded as error:
            context.blobs.delete(key)
            _end(context, pending, Blob(key, 0, ""), FileStatus.ERROR, error.message)


def _end(context: Context, pending: FileImport, blob: Blob, status: FileStatus, details: str | None) -> None:
    with context.database.writing() as tx:
        if blob.bytes:  # an import that failed must end even where the limit was lowered below what is used
            quotas.admit_bytes(tx, pending.resource_id, blob.bytes)
        is_there = files.end_import(tx, pending.file_id, status, details, blob.bytes, blob.sha256)
        imports.delete(tx, pending.file_id)
    if not is_there:  # deleted or expired meanwhile
        context.blobs.delete(blob.key)
    logger.info("import ended file=%s status=%s bytes=%d there=%s", pending.file_id, status, blob.bytes, is_there)
