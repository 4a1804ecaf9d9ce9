"""Files: upload, list, read, delete. Bytes first, then the row; the row's end first, then the bytes."""

import logging
from collections.abc import Iterable, Iterator

from luthier.core import ids
from luthier.core.errors import InvalidRequest, NotFound, TooLarge
from luthier.core.models import File
from luthier.core.ports import Blob
from luthier.core.states import FilePurpose, FileStatus
from luthier.service import quotas
from luthier.service.context import Context
from luthier.store import files

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 512 * 1024 * 1024
"""The guide: "The file must be less than 512 MB in size"; we take exactly 512 MiB as well."""
MAX_FILENAME_CHARACTERS = 255


def receive(context: Context, chunks: Iterable[bytes]) -> Blob:
    """Stores the bytes of an upload, which is no file yet. Raises TooLarge and InvalidRequest, and then keeps none."""
    return context.blobs.put(blob_key(ids.file_id(context.new_hex())), _capped(chunks))


def discard(context: Context, blob: Blob) -> None:
    """Forgets received bytes that become no file."""
    context.blobs.delete(blob.key)


def check_purpose(purpose: str | None) -> None:
    """Raises InvalidRequest for a purpose that cannot be uploaded."""
    if purpose != FilePurpose.FINE_TUNE:
        found = "missing" if purpose is None else repr(purpose)
        raise InvalidRequest(
            "invalid_purpose",
            f"purpose is {found}; files to train on are uploaded with purpose='fine-tune'.",
            "purpose",
        )


def create(context: Context, resource_id: str, filename: str, purpose: str | None, blob: Blob) -> File:
    """Makes received bytes a file. Raises InvalidRequest for purpose or name; the bytes are then the caller's still."""
    check_purpose(purpose)
    if not filename or len(filename) > MAX_FILENAME_CHARACTERS:
        raise InvalidRequest(
            "invalid_filename", f"The file needs a name of 1 to {MAX_FILENAME_CHARACTERS} characters.", "file"
        )
    file = File(
        id=blob.key.removeprefix("files/"),
        resource_id=resource_id,
        filename=filename,
        purpose=FilePurpose.FINE_TUNE,
        bytes=blob.bytes,
        sha256=blob.sha256,
        status=FileStatus.PROCESSED,
        status_details=None,
        created_at=context.now(),
    )
    with context.database.writing() as tx:
        quotas.admit_file(tx, resource_id, file.bytes)
        files.insert_file(tx, file)
    logger.info("file stored id=%s resource=%s bytes=%d", file.id, resource_id, file.bytes)
    return file


def get(context: Context, resource_id: str, file_id: str) -> File:
    with context.database.reading() as tx:
        file = files.get(tx, resource_id, file_id)
    if file is None:
        raise not_found(file_id)
    return file


def list_page(
    context: Context, resource_id: str, purpose: str | None, after: str | None, limit: int, ascending: bool
) -> tuple[list[File], bool]:
    with context.database.reading() as tx:
        return files.list_page(tx, resource_id, purpose, after, limit, ascending)


def content(context: Context, file: File) -> Iterator[bytes]:
    try:
        return context.blobs.open(blob_key(file.id))
    except FileNotFoundError as error:
        raise not_found(file.id) from error


def delete(context: Context, resource_id: str, file_id: str) -> None:
    """Deletes the file. A job that has begun has its own copy and goes on; one that waits will fail and say why."""
    with context.database.writing() as tx:
        if not files.delete(tx, resource_id, file_id):
            raise not_found(file_id)
    context.blobs.delete(blob_key(file_id))
    logger.info("file deleted id=%s resource=%s", file_id, resource_id)


def not_found(file_id: str, param: str | None = None) -> NotFound:
    return NotFound(
        "file_not_found", f"There is no file {file_id!r} here. GET .../files lists the files of this resource.", param
    )


def blob_key(file_id: str) -> str:
    return f"files/{file_id}"


def _capped(chunks: Iterable[bytes]) -> Iterator[bytes]:
    length = 0
    for chunk in chunks:
        length += len(chunk)
        if length > MAX_FILE_BYTES:
            raise TooLarge(
                "file_too_large",
                f"The file is larger than {MAX_FILE_BYTES // 2**20} MiB. Split it, or leave out rows.",
                "file",
            )
        yield chunk
    if length == 0:
        raise InvalidRequest(
            "empty_file", "The file has no bytes. Check that it was opened for reading at its start.", "file"
        )
