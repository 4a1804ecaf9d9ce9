"""Files: upload, list, read, delete. Bytes first, then the row; the row's end first, then the bytes."""

import logging
from collections.abc import Collection, Iterable, Iterator
from datetime import timedelta

from luthier.core import ids
from luthier.core.errors import Conflict, InvalidRequest, NotFound, TooLarge
from luthier.core.models import File
from luthier.core.ports import Blob
from luthier.core.states import FilePurpose, FileStatus
from luthier.service import quotas
from luthier.service.context import Context
from luthier.store import files, imports

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 512 * 1024 * 1024
"""The guide: "The file must be less than 512 MB in size"; we take exactly 512 MiB as well."""
MAX_FILENAME_CHARACTERS = 255
MAX_EXPIRY_S = 2_592_000
"""30 days, in every dialect (contract section 4)."""
UPLOADED_PURPOSES = frozenset({FilePurpose.FINE_TUNE, FilePurpose.USER_DATA})


def receive(context: Context, chunks: Iterable[bytes], max_bytes: int = MAX_FILE_BYTES) -> Blob:
    """Stores the bytes of an upload, which is no file yet. Raises TooLarge and InvalidRequest, and then keeps none."""
    return context.blobs.put(blob_key(ids.file_id(context.new_hex())), capped(chunks, max_bytes))


def discard(context: Context, blob: Blob) -> None:
    """Forgets received bytes that become no file."""
    context.blobs.delete(blob.key)


def check_purpose(purpose: str | None, allowed: Collection[FilePurpose] = UPLOADED_PURPOSES) -> FilePurpose:
    """The purpose as ours. Raises InvalidRequest for one that is not taken: nothing here would use such a file."""
    if purpose is None or purpose not in allowed:
        found = "missing" if purpose is None else repr(purpose)
        others = ", files of any other kind with purpose='user_data'" if FilePurpose.USER_DATA in allowed else ""
        raise InvalidRequest(
            "invalid_purpose",
            f"purpose is {found}; files to train on are uploaded with purpose='fine-tune'{others}.",
            "purpose",
        )
    return FilePurpose(purpose)


def check_filename(filename: str, param: str = "file") -> None:
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
    """Makes received bytes a file. Raises InvalidRequest for purpose or name; the bytes are then the caller's still."""
    checked = check_purpose(purpose)
    check_filename(filename)
    file = as_file(context, resource_id, filename, checked, blob, expires_after_s)
    with context.database.writing() as tx:
        quotas.admit_file(tx, resource_id, file.bytes)
        files.insert_file(tx, file)
    logger.info("file stored id=%s resource=%s bytes=%d", file.id, resource_id, file.bytes)
    return file


def as_file(
    context: Context, resource_id: str, filename: str, purpose: FilePurpose, blob: Blob, expires_after_s: int | None
) -> File:
    """The file that received bytes are to become, not written down yet."""
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
        expires_at=None if expires_after_s is None else now + timedelta(seconds=expires_after_s),
    )


def get(context: Context, resource_id: str, file_id: str) -> File:
    with context.database.reading() as tx:
        file = files.get(tx, resource_id, file_id, context.now())
    if file is None:
        raise not_found(file_id)
    return file


def list_page(
    context: Context, resource_id: str, purpose: str | None, after: str | None, limit: int, ascending: bool
) -> tuple[list[File], bool]:
    with context.database.reading() as tx:
        return files.list_page(tx, resource_id, purpose, after, limit, ascending, context.now())


def content(context: Context, file: File, start: int = 0, length: int | None = None) -> Iterator[bytes]:
    """The file's bytes, or a range that lies inside it. Raises Conflict for a file whose import has not succeeded."""
    if file.status is not FileStatus.PROCESSED:
        raise Conflict(*_not_ready(file))
    try:
        return context.blobs.open(blob_key(file.id), start, length)
    except FileNotFoundError as error:
        raise not_found(file.id) from error


def delete(context: Context, resource_id: str, file_id: str) -> None:
    """Deletes the file. A job that has begun has its own copy and goes on; one that waits will fail and say why."""
    with context.database.writing() as tx:
        if files.get(tx, resource_id, file_id, context.now()) is None:
            raise not_found(file_id)
        files.delete(tx, resource_id, file_id)
        imports.delete(tx, file_id)
    delete_bytes(context, file_id)
    logger.info("file deleted id=%s resource=%s", file_id, resource_id)


def check_trainable(file: File, param: str) -> None:
    """Raises InvalidRequest for a file that no job can read: not there yet, never there, or of another kind."""
    if file.status is not FileStatus.PROCESSED:
        code, text = _not_ready(file)
        raise InvalidRequest(code, f"{param}: {text}", param)
    if file.purpose is not FilePurpose.FINE_TUNE:
        raise InvalidRequest(
            "invalid_purpose",
            f"{param}: {file.id} has purpose {str(file.purpose)!r}; only a file of purpose 'fine-tune' is trained on.",
            param,
        )


def _not_ready(file: File) -> tuple[str, str]:
    if file.status is FileStatus.PENDING:
        text = f"{file.id} is still being imported. Wait until its status is processed."
        return "file_not_ready", text
    return "file_import_failed", f"{file.id} has no content: {file.status_details} Delete it and import it again."


def not_found(file_id: str, param: str | None = None) -> NotFound:
    return NotFound(
        "file_not_found", f"There is no file {file_id!r} here. GET .../files lists the files of this resource.", param
    )


def delete_bytes(context: Context, file_id: str) -> None:
    """Deletes what lies in the blob store of a file that has no row any more."""
    context.blobs.delete(report_key(file_id))
    context.blobs.delete(blob_key(file_id))


def blob_key(file_id: str) -> str:
    return f"files/{file_id}"


def report_key(file_id: str) -> str:
    return f"reports/{file_id}"


def capped(chunks: Iterable[bytes], max_bytes: int = MAX_FILE_BYTES) -> Iterator[bytes]:
    """The chunks as they come. Raises TooLarge where they pass the cap, InvalidRequest where there was no byte."""
    length = 0
    for chunk in chunks:
        length += len(chunk)
        if length > max_bytes:
            raise TooLarge(
                "file_too_large",
                f"The file is larger than {max_bytes // 2**20} MiB. Split it, or leave out rows.",
                "file",
            )
        yield chunk
    if length == 0:
        raise InvalidRequest(
            "empty_file", "The file has no bytes. Check that it was opened for reading at its start.", "file"
        )
