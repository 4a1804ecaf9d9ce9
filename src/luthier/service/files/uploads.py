"""Uploads in parts: each part is durable before it is acknowledged; they are joined into a File by streaming."""

import asyncio
import hashlib
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from luthier.core import ids
from luthier.core.errors import Conflict, InvalidRequest, LuthierError, NotFound, TooLarge
from luthier.core.models import File, Upload, UploadPart
from luthier.core.ports import Blob
from luthier.core.quotas import MAX_FILE_BYTES
from luthier.core.states import FilePurpose, UploadStatus
from luthier.service.context import Context
from luthier.service.files import files as file_service
from luthier.service.tenants import quotas
from luthier.store.db import Connection
from luthier.store.queries import files, uploads

logger = logging.getLogger(__name__)

MAX_PART_BYTES = 64 * 1024 * 1024
MAX_UPLOAD_BYTES = 8 * 1024 * 1024 * 1024
MAX_PARTS = 10_000
_MD5 = re.compile(r"[0-9a-fA-F]{32}")


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """What a caller announces. `bytes` is the length of the whole file.

    `expires_after_s` is for the file that it becomes; None is never.
    """

    filename: str
    purpose: FilePurpose
    bytes: int
    mime_type: str
    expires_after_s: int | None


def create(context: Context, resource_id: str, request: UploadRequest) -> Upload:
    """Creates a pending upload. Raises QuotaExceeded, InvalidRequest and TooLarge if it can never become a file."""
    file_service.check_filename(request.filename, "filename")
    if request.bytes < 1:
        raise InvalidRequest("invalid_bytes", f"bytes is {request.bytes}; a file has at least one.", "bytes")
    is_training = request.purpose is FilePurpose.FINE_TUNE
    max_bytes = MAX_FILE_BYTES if is_training else MAX_UPLOAD_BYTES
    if request.bytes > max_bytes:
        what = "A training file" if is_training else "An upload"
        raise TooLarge(
            "file_too_large", f"{what} may have {max_bytes // 2**20} MiB; bytes is {request.bytes}.", "bytes"
        )
    now = context.now()
    upload = Upload(
        id=ids.upload_id(context.new_hex()),
        resource_id=resource_id,
        filename=request.filename,
        purpose=request.purpose,
        bytes=request.bytes,
        mime_type=request.mime_type,
        status=UploadStatus.PENDING,
        created_at=now,
        expires_at=context.lifetime_start(now) + timedelta(seconds=context.upload_expiry_s),
        file_expires_after_s=request.expires_after_s,
    )
    with context.database.writing() as tx:
        quotas.admit_file(tx, resource_id, request.bytes)
        uploads.insert_upload(tx, upload)
    logger.info("upload created id=%s resource=%s bytes=%d", upload.id, resource_id, upload.bytes)
    return upload


async def add_part(context: Context, resource_id: str, upload_id: str, chunks: AsyncIterator[bytes]) -> UploadPart:
    """Stores one part, blob first, then row; no thread waits for the caller. Raises NotFound, Conflict for an ended
    upload, TooLarge, QuotaExceeded, and InvalidRequest for no bytes."""
    allowed_bytes = await asyncio.to_thread(_read_allowed_bytes, context, resource_id, upload_id)
    part_id = ids.part_id(context.new_hex())
    blob = await context.blobs.put_as_it_comes(blob_key(upload_id, part_id), _limited(chunks, allowed_bytes))
    return await asyncio.to_thread(_store_part, context, resource_id, upload_id, part_id, blob)


def _store_part(context: Context, resource_id: str, upload_id: str, part_id: str, blob: Blob) -> UploadPart:
    """Inserts a part whose blob is stored. Raises as `add_part`; the blob is then deleted."""
    part = UploadPart(part_id, upload_id, blob.bytes, context.now())
    try:
        with context.database.writing() as tx:
            if part.bytes > _allowed_bytes(context, tx, resource_id, upload_id):
                raise _upload_too_large()
            quotas.admit_bytes(tx, resource_id, part.bytes)
            uploads.insert_part(tx, part)
    except LuthierError:
        context.blobs.delete(blob.key)
        raise
    logger.info("upload part stored id=%s upload=%s bytes=%d", part.id, upload_id, part.bytes)
    return part


def complete(
    context: Context,
    resource_id: str,
    upload_id: str,
    part_ids: Sequence[str],
    md5: str | None,
    check_caller: Callable[[], None] = lambda: None,
) -> tuple[Upload, File]:
    """Joins the parts in the given order into a file, and deletes them. Idempotent for the same parts.

    Raises InvalidRequest if parts, length or md5 are wrong, QuotaExceeded, and whatever `check_caller` raises once all
    is joined; the upload then stays pending. Raises NotFound, and Conflict if it has ended in another way.
    """
    with context.database.reading() as tx:
        upload = _require(tx, resource_id, upload_id)
        if (completed := _completed_before(context, tx, upload, part_ids)) is not None:
            return completed
        _check_pending(context, upload)
        _check_parts(upload, uploads.parts(tx, upload_id), part_ids)
    try:
        blob = _store_joined(context, upload_id, part_ids, md5)
    except FileNotFoundError as error:  # cancelled, expired or completed by another call meanwhile
        return _outcome_of_other_call(context, resource_id, upload_id, part_ids, error)
    file = file_service.make_file(
        context, resource_id, upload.filename, upload.purpose, blob, upload.file_expires_after_s
    )
    try:
        check_caller()
        with context.database.writing() as tx:
            is_first = uploads.complete(tx, upload_id, part_ids, file.id)
            if is_first:
                parts = uploads.parts(tx, upload_id)
                uploads.delete_parts(tx, upload_id)  # the file replaces them in the quota
                quotas.admit_file(tx, resource_id, file.bytes)
                files.insert_file(tx, file)
                upload = _require(tx, resource_id, upload_id)
    except LuthierError:
        file_service.discard(context, blob)
        raise
    if not is_first:
        file_service.discard(context, blob)
        return _outcome_of_other_call(context, resource_id, upload_id, part_ids, None)
    for part_id in parts:
        context.blobs.delete(blob_key(upload_id, part_id))
    logger.info("upload completed id=%s file=%s bytes=%d parts=%d", upload_id, file.id, file.bytes, len(part_ids))
    return upload, file


def _store_joined(context: Context, upload_id: str, part_ids: Sequence[str], md5: str | None) -> Blob:
    """Stores the parts, one behind the other, as the blob of a new file; the parts stay.

    The caller discards the blob if no file comes of it. Raises InvalidRequest for an md5 that is malformed or differs,
    and FileNotFoundError for a deleted part.
    """
    if md5 is not None and not _MD5.fullmatch(md5):
        raise InvalidRequest("invalid_md5", "md5 must be 32 hex digits: the MD5 of the whole file's bytes.", "md5")
    digest = hashlib.md5(usedforsecurity=False)
    keys = [blob_key(upload_id, part_id) for part_id in part_ids]
    blob = context.blobs.join(file_service.blob_key(ids.file_id(context.new_hex())), keys, digest.update)
    if md5 is not None and digest.hexdigest() != md5.lower():
        file_service.discard(context, blob)
        text = f"md5 is {md5}, that of the bytes received {digest.hexdigest()}. Check the order of part_ids."
        raise InvalidRequest("md5_mismatch", text, "md5")
    return blob


def cancel(context: Context, resource_id: str, upload_id: str) -> Upload:
    """Cancels a pending upload and deletes its parts. Raises NotFound, and Conflict for one that has ended."""
    with context.database.reading() as tx:
        _check_pending(context, _require(tx, resource_id, upload_id))
    if not end(context, upload_id, UploadStatus.CANCELLED):
        raise Conflict("upload_ended", f"{upload_id} has already ended.")
    with context.database.reading() as tx:
        return _require(tx, resource_id, upload_id)


def end(context: Context, upload_id: str, status: UploadStatus) -> bool:
    """Ends a pending upload without a file: its row, then the blobs of its parts. False if it had ended."""
    with context.database.writing() as tx:
        ended = uploads.end(tx, upload_id, status)
        parts = uploads.parts(tx, upload_id) if ended else {}
        if ended:
            uploads.delete_parts(tx, upload_id)
    for part_id in parts:
        context.blobs.delete(blob_key(upload_id, part_id))
    logger.info("upload ended id=%s status=%s moved=%s", upload_id, status, ended)
    return ended


def blob_key(upload_id: str, part_id: str) -> str:
    return f"uploads/{upload_id}/{part_id}"


def _require(tx: Connection, resource_id: str, upload_id: str) -> Upload:
    """The upload, if it is the resource's. Raises NotFound."""
    upload = uploads.get(tx, resource_id, upload_id)
    if upload is None:
        raise NotFound("upload_not_found", f"There is no upload {upload_id!r} here. POST .../uploads creates one.")
    return upload


def _check_pending(context: Context, upload: Upload) -> None:
    """Raises Conflict for an upload that has ended or surely expired."""
    expired = upload.status is UploadStatus.PENDING and upload.expires_at <= context.deletion_time()
    if expired or upload.status is UploadStatus.EXPIRED:
        raise Conflict(
            "upload_expired", f"{upload.id} expired at {upload.expires_at:%H:%M:%S} UTC. Create a new upload."
        )
    if upload.status is not UploadStatus.PENDING:
        raise Conflict("upload_ended", f"{upload.id} is {upload.status} already. Create a new upload.")


def _read_allowed_bytes(context: Context, resource_id: str, upload_id: str) -> int:
    """As `_allowed_bytes`, in a transaction of its own."""
    with context.database.reading() as tx:
        return _allowed_bytes(context, tx, resource_id, upload_id)


def _allowed_bytes(context: Context, tx: Connection, resource_id: str, upload_id: str) -> int:
    """The maximum size of one more part. Raises NotFound, Conflict for an ended upload, and TooLarge for none.

    A part whose response was lost is sent again, so the parts may add up to twice the file and one part more.
    """
    upload = _require(tx, resource_id, upload_id)
    _check_pending(context, upload)
    count, length = uploads.stored(tx, upload_id)
    allowed = 2 * upload.bytes + MAX_PART_BYTES - length
    if count >= MAX_PARTS or allowed <= 0:
        raise _upload_too_large()
    return min(allowed, MAX_PART_BYTES)


async def _limited(chunks: AsyncIterator[bytes], allowed_bytes: int) -> AsyncIterator[bytes]:
    """Passes a part's chunks on. Raises TooLarge beyond a part's size or `allowed_bytes`, InvalidRequest for none."""
    length = 0
    async for chunk in chunks:
        length += len(chunk)
        if length > MAX_PART_BYTES:
            text = f"The part is larger than {MAX_PART_BYTES // 2**20} MiB. Send smaller parts."
            raise TooLarge("part_too_large", text, "data")
        if length > allowed_bytes:
            raise _upload_too_large()
        yield chunk
    if length == 0:
        raise InvalidRequest("empty_part", "The part has no bytes.", "data")


def _upload_too_large() -> TooLarge:
    text = f"The upload has more than {MAX_PARTS} parts, or far more bytes than announced. Complete or cancel it."
    return TooLarge("upload_too_large", text, "data")


def _check_parts(upload: Upload, parts: dict[str, UploadPart], part_ids: Sequence[str]) -> None:
    """Raises InvalidRequest unless all are parts of the upload, each named once, of the announced length together."""
    for index, part_id in enumerate(part_ids):
        if part_id not in parts:
            text = f"part_ids[{index}]: {part_id!r} is not a part of {upload.id}."
            raise InvalidRequest("part_not_found", text, f"part_ids[{index}]")
    repeated = [part_id for part_id, count in Counter(part_ids).items() if count > 1]
    if repeated:
        raise InvalidRequest("part_named_twice", f"part_ids names {repeated[0]} more than once.", "part_ids")
    length = sum(parts[part_id].bytes for part_id in part_ids)
    if length != upload.bytes:
        text = f"The {len(part_ids)} parts named have {length} bytes; the upload was announced with {upload.bytes}."
        raise InvalidRequest("bytes_mismatch", text, "part_ids")


def _completed_before(
    context: Context, tx: Connection, upload: Upload, part_ids: Sequence[str]
) -> tuple[Upload, File] | None:
    """The answer of an earlier call with the same parts, whose response may have been lost; None if there was none, or
    its file is gone.
    """
    if upload.status is not UploadStatus.COMPLETED or upload.part_ids != tuple(part_ids) or upload.file_id is None:
        return None
    file = files.get(tx, upload.resource_id, upload.file_id, context.now())
    return None if file is None else (upload, file)


def _outcome_of_other_call(
    context: Context, resource_id: str, upload_id: str, part_ids: Sequence[str], error: Exception | None
) -> tuple[Upload, File]:
    """The answer of the call that ended the upload meanwhile. Raises Conflict unless it completed the same parts."""
    with context.database.reading() as tx:
        upload = _require(tx, resource_id, upload_id)
        completed = _completed_before(context, tx, upload, part_ids)
    if completed is None:
        raise Conflict("upload_ended", f"{upload_id} has ended meanwhile: it is {upload.status}.") from error
    return completed
