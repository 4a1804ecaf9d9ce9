"""Files: upload, list, read, delete. The blob is written before the row, and deleted after it."""

import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import timedelta

from luthier.core import ids
from luthier.core.errors import Conflict, InvalidRequest, NotFound, TooLarge
from luthier.core.models import File
from luthier.core.ports import Blob
from luthier.core.quotas import MAX_FILE_BYTES
from luthier.core.states import FilePurpose, FileStatus
from luthier.service.context import Context
from luthier.service.tenants import quotas
from luthier.store.queries import files, imports

logger = logging.getLogger(__name__)

MAX_FILENAME_CHARACTERS = 255
MAX_EXPIRY_S = 2_592_000
"""30 days, in every dialect (wire-contract.md section 4)."""
UPLOADED_PURPOSES = frozenset(FilePurpose) - {FilePurpose.FINE_TUNE_RESULTS, FilePurpose.BATCH_OUTPUT}
"""What clients of either vendor send (wire-contract.md section 4). All but fine-tune are only stored and returned."""


async def receive(context: Context, chunks: AsyncIterator[bytes], max_bytes: int = MAX_FILE_BYTES) -> Blob:
    """Stores the bytes of an upload under the key of a new file id, without a row yet; no thread waits for the caller.

    Raises TooLarge, InvalidRequest for no bytes, and NoSpace, and then stores nothing.
    """
    key = blob_key(ids.file_id(context.new_hex()))
    return await context.blobs.put_as_it_comes(key, _limited_async(chunks, max_bytes))


def discard(context: Context, blob: Blob) -> None:
    """Deletes received bytes that do not become a file."""
    context.blobs.delete(blob.key)


def check_purpose(purpose: str | None) -> FilePurpose:
    """The purpose as an enum. Raises InvalidRequest for one that clients may not use."""
    if purpose is None or purpose not in UPLOADED_PURPOSES:
        given = "missing" if purpose is None else repr(purpose[:64])
        others = ", ".join(sorted(UPLOADED_PURPOSES - {FilePurpose.FINE_TUNE}))
        raise InvalidRequest(
            "invalid_purpose",
            f"purpose is {given}; files to train on are uploaded with purpose='fine-tune'. Files of these are "
            f"only stored and returned: {others}.",
            "purpose",
        )
    return FilePurpose(purpose)


def check_filename(filename: str, param: str = "file") -> None:
    """Raises InvalidRequest, naming `param`, for an empty name or one that is too long."""
    if not filename or len(filename) > MAX_FILENAME_CHARACTERS:
        raise InvalidRequest(
            "invalid_filename", f"The file needs a name of 1 to {MAX_FILENAME_CHARACTERS} characters.", param
        )


def create(
    context: Context,
    resource_id: str,
    filename: str,
    purpose: str | None,
    blob: Blob,
    expires_after_s: int | None = None,
) -> File:
    """Inserts a file for received bytes; `expires_after_s` None is never.

    Raises InvalidRequest for purpose or name and QuotaExceeded; the caller then discards the bytes.
    """
    checked_purpose = check_purpose(purpose)
    check_filename(filename)
    file = make_file(context, resource_id, filename, checked_purpose, blob, expires_after_s)
    with context.database.writing() as tx:
        quotas.admit_file(tx, resource_id, file.bytes)
        files.insert_file(tx, file)
    logger.info("file stored id=%s resource=%s bytes=%d", file.id, resource_id, file.bytes)
    return file


def make_file(
    context: Context, resource_id: str, filename: str, purpose: FilePurpose, blob: Blob, expires_after_s: int | None
) -> File:
    """The file for received bytes, not inserted; its id is in the blob's key. `expires_after_s` None is never."""
    now = context.now()
    return File(
        id=blob.key.removeprefix("files/"),
        resource_id=resource_id,
        filename=filename,
        purpose=purpose,
        bytes=blob.bytes,
        sha256=blob.sha256,
        status=FileStatus.PROCESSED,
        status_details=None,
        created_at=now,
        expires_at=None
        if expires_after_s is None
        else context.lifetime_start(now) + timedelta(seconds=expires_after_s),
    )


def get(context: Context, resource_id: str, file_id: str) -> File:
    """One file of the resource. Raises NotFound, for one that has expired as well."""
    with context.database.reading() as tx:
        file = files.get(tx, resource_id, file_id, context.now())
    if file is None:
        raise not_found(file_id)
    return file


def list_page(
    context: Context, resource_id: str, purpose: str | None, after: str | None, limit: int, ascending: bool
) -> tuple[list[File], bool]:
    """A page of the resource's files after the id `after`, expired ones left out, and whether more follow.

    `purpose` None is all purposes. Raises InvalidRequest for an `after` that is none of its files.
    """
    with context.database.reading() as tx:
        return files.list_page(tx, resource_id, purpose, after, limit, ascending, context.now())


def content(context: Context, file: File, start: int = 0, length: int | None = None) -> Iterator[bytes]:
    """The file's bytes in chunks, or a range inside it. Raises Conflict for a file whose import has not succeeded, and
    NotFound if its bytes are gone.
    """
    if file.status is not FileStatus.PROCESSED:
        raise Conflict(*_not_ready(file))
    try:
        return context.blobs.open(blob_key(file.id), start, length)
    except FileNotFoundError as error:
        raise not_found(file.id) from error


def link(context: Context, file: File) -> str | None:
    """A URL by which anybody can read the file's bytes for a short time: a secret. None if there are no such URLs.

    Raises Conflict for a file whose import has not succeeded.
    """
    if file.status is not FileStatus.PROCESSED:
        raise Conflict(*_not_ready(file))
    return None if context.download_links is None else context.download_links.url_of(blob_key(file.id))


def delete(context: Context, resource_id: str, file_id: str) -> None:
    """Deletes the file: row and pending import, then blobs. Raises NotFound.

    A running job has its own copy and continues; a waiting one will fail with the reason.
    """
    with context.database.writing() as tx:
        if files.get(tx, resource_id, file_id, context.now()) is None:
            raise not_found(file_id)
        files.delete(tx, resource_id, file_id)
        imports.delete(tx, file_id)
    delete_bytes(context, file_id)
    logger.info("file deleted id=%s resource=%s", file_id, resource_id)


def check_trainable(file: File, param: str) -> None:
    """Raises InvalidRequest for a file that no job can read: import pending or failed, or another purpose."""
    if file.status is not FileStatus.PROCESSED:
        code, text = _not_ready(file)
        raise InvalidRequest(code, f"{param}: {text}", param)
    if file.purpose is not FilePurpose.FINE_TUNE:
        raise InvalidRequest(
            "invalid_purpose",
            f"{param}: {file.id} has purpose {str(file.purpose)!r}; only a file of purpose 'fine-tune' is trained on. "
            "Upload it again with purpose='fine-tune'.",
            param,
        )


def _not_ready(file: File) -> tuple[str, str]:
    """Code and text of the error for a file whose import is pending or has failed."""
    if file.status is FileStatus.PENDING:
        text = f"{file.id} is still being imported. Wait until its status is processed."
        return "file_not_ready", text
    return "file_import_failed", f"{file.id} has no content: {file.status_details} Delete it and import it again."


def not_found(file_id: str, param: str | None = None) -> NotFound:
    return NotFound(
        "file_not_found", f"There is no file {file_id!r} here. GET .../files lists the files of this resource.", param
    )


def delete_bytes(context: Context, file_id: str) -> None:
    """Deletes the blobs of a file that no longer has a row: its content and its report."""
    context.blobs.delete(report_key(file_id))
    context.blobs.delete(blob_key(file_id))


def blob_key(file_id: str) -> str:
    return f"files/{file_id}"


def report_key(file_id: str) -> str:
    return f"reports/{file_id}"


def limited(chunks: Iterable[bytes], max_bytes: int = MAX_FILE_BYTES) -> Iterator[bytes]:
    """Passes the chunks on. Raises TooLarge beyond the limit, InvalidRequest if there was no byte."""
    limit = _ByteLimit(max_bytes)
    for chunk in chunks:
        limit.count(len(chunk))
        yield chunk
    limit.finish()


class _ByteLimit:
    """Counts the bytes of a file up to a limit."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._length = 0

    def count(self, length: int) -> None:
        """Adds a chunk of `length` bytes. Raises TooLarge beyond the limit."""
        self._length += length
        if self._length > self._max_bytes:
            raise TooLarge(
                "file_too_large",
                f"The file is larger than {self._max_bytes // 2**20} MiB. Split it, or remove rows.",
                "file",
            )

    def finish(self) -> None:
        """Raises InvalidRequest if there was no byte."""
        if self._length == 0:
            raise InvalidRequest(
                "empty_file", "The file has no bytes. Check that it was opened for reading at its start.", "file"
            )


async def _limited_async(chunks: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    """As `limited`, for chunks that the event loop receives."""
    limit = _ByteLimit(max_bytes)
    async for chunk in chunks:
        limit.count(len(chunk))
        yield chunk
    limit.finish()
