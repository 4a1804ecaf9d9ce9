"""Uploads in parts: each part durable before it is acknowledged, joined into a File without being held in memory."""

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from luthier.core import ids
from luthier.core.errors import Conflict, InvalidRequest, LuthierError, NotFound, QuotaExceeded, TooLarge
from luthier.core.models import File, Upload, UploadPart
from luthier.core.states import FilePurpose, UploadStatus
from luthier.service import files as file_service
from luthier.service import quotas
from luthier.service.context import Context
from luthier.store import files, uploads
from luthier.store.db import Connection

logger = logging.getLogger(__name__)

MAX_PART_BYTES = 64 * 1024 * 1024
MAX_UPLOAD_BYTES = 8 * 1024 * 1024 * 1024
MAX_PARTS = 10_000
_MD5 = re.compile(r"[0-9a-fA-F]{32}")


@dataclass(frozen=True, slots=True)
class UploadRequest:
    """What a caller announces. `bytes` is the length of the whole file."""

    filename: str
    purpose: FilePurpose
    bytes: int
    mime_type: str
    expires_after_s: int | None


def create(context: Context, resource_id: str, request: UploadRequest) -> Upload:
    """Raises InvalidRequest and TooLarge for what could never become a file, before a byte of it is sent."""
    file_service.check_filename(request.filename, "filename")
    if request.bytes < 1:
        raise InvalidRequest("invalid_bytes", f"bytes is {request.bytes}; a file has at least one.", "bytes")
    fine_tune = request.purpose is FilePurpose.FINE_TUNE
    cap = file_service.MAX_FILE_BYTES if fine_tune else MAX_UPLOAD_BYTES
    if request.bytes > cap:
        what = "A file to train on" if fine_tune else "An upload"
        raise TooLarge("file_too_large", f"{what} may have {cap // 2**20} MiB; bytes is {request.bytes}.", "bytes")
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
        expires_at=now + timedelta(seconds=context.upload_expiry_s),
        file_expires_after_s=request.expires_after_s,
    )
    with context.database.writing() as tx:
        quotas.admit_file(tx, resource_id, request.bytes)
        uploads.insert_upload(tx, upload)
    logger.info("upload created id=%s resource=%s bytes=%d", upload.id, resource_id, upload.bytes)
    return upload


def add_part(context: Context, resource_id: str, upload_id: str, chunks: Iterable[bytes]) -> UploadPart:
    """Stores one part. Raises NotFound, Conflict for an ended upload, TooLarge, and InvalidRequest for no bytes."""
    with context.database.reading() as tx:
        room = _room(context, tx, resource_id, upload_id)
    part_id = ids.part_id(context.new_hex())
    blob = context.blobs.put(blob_key(upload_id, part_id), _capped(chunks, room))
    part = UploadPart(part_id, upload_id, blob.bytes, context.now())
    try:
        with context.database.writing() as tx:
            if part.bytes > _room(context, tx, resource_id, upload_id):
                raise _no_room()
            uploads.insert_part(tx, part)
    except LuthierError:
        context.blobs.delete(blob.key)
        raise
    logger.info("upload part stored id=%s upload=%s bytes=%d", part.id, upload_id, part.bytes)
    return part


def complete(
    context: Context, resource_id: str, upload_id: str, part_ids: Sequence[str], md5: str | None
) -> tuple[Upload, File]:
    """Joins the parts in the order given. Asked again with the same parts it gives the same answer.

    Raises InvalidRequest where parts, length or md5 are wrong, and then the upload is pending still; Conflict where it
    has ended in another way.
    """
    with context.database.reading() as tx:
        upload = _require(tx, resource_id, upload_id)
        if (ended := _ended_alike(context, tx, upload, part_ids)) is not None:
            return ended
        _check_pending(context, upload)
        _check_parts(upload, uploads.parts(tx, upload_id), part_ids)
    if md5 is not None and not _MD5.fullmatch(md5):
        raise InvalidRequest("invalid_md5", "md5 must be 32 hex digits: the MD5 of the whole file's bytes.", "md5")
    digest = hashlib.md5(usedforsecurity=False)
    keys = [blob_key(upload_id, part_id) for part_id in part_ids]
    try:
        blob = context.blobs.join(file_service.blob_key(ids.file_id(context.new_hex())), keys, digest.update)
    except FileNotFoundError as error:  # cancelled, expired or completed by another call meanwhile
        return _outcome_of_another(context, resource_id, upload_id, part_ids, error)
    if md5 is not None and digest.hexdigest() != md5.lower():
        file_service.discard(context, blob)
        text = f"md5 is {md5}, that of the bytes received {digest.hexdigest()}. Check the order of part_ids."
        raise InvalidRequest("md5_mismatch", text, "md5")
    file = file_service.as_file(
        context, resource_id, upload.filename, upload.purpose, blob, upload.file_expires_after_s
    )
    try:
        with context.database.writing() as tx:
            won = uploads.complete(tx, upload_id, part_ids, file.id)
            if won:
                quotas.admit_file(tx, resource_id, file.bytes)
                files.insert_file(tx, file)
                parts = uploads.parts(tx, upload_id)
                uploads.delete_parts(tx, upload_id)
                upload = _require(tx, resource_id, upload_id)
    except QuotaExceeded:
        file_service.discard(context, blob)
        raise
    if not won:
        file_service.discard(context, blob)
        return _outcome_of_another(context, resource_id, upload_id, part_ids, None)
    for part_id in parts:
        context.blobs.delete(blob_key(upload_id, part_id))
    logger.info("upload completed id=%s file=%s bytes=%d parts=%d", upload_id, file.id, file.bytes, len(part_ids))
    return upload, file


def cancel(context: Context, resource_id: str, upload_id: str) -> Upload:
    """Ends a pending upload and forgets its parts. Raises Conflict for one that has ended."""
    with context.database.reading() as tx:
        _check_pending(context, _require(tx, resource_id, upload_id))
    if not end(context, upload_id, UploadStatus.CANCELLED):
        raise Conflict("upload_ended", f"{upload_id} has ended already.")
    with context.database.reading() as tx:
        return _require(tx, resource_id, upload_id)


def end(context: Context, upload_id: str, status: UploadStatus) -> bool:
    """Ends a pending upload without a file: its row, then the bytes of its parts. False where it had ended."""
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
    upload = uploads.get(tx, resource_id, upload_id)
    if upload is None:
        raise NotFound("upload_not_found", f"There is no upload {upload_id!r} here. POST .../uploads begins one.")
    return upload


def _check_pending(context: Context, upload: Upload) -> None:
    expired = upload.status is UploadStatus.PENDING and upload.expires_at <= context.now()
    if expired or upload.status is UploadStatus.EXPIRED:
        raise Conflict(
            "upload_expired", f"{upload.id} expired at {upload.expires_at:%H:%M:%S} UTC. Begin a new upload."
        )
    if upload.status is not UploadStatus.PENDING:
        raise Conflict("upload_ended", f"{upload.id} is {upload.status} already. Begin a new upload.")


def _room(context: Context, tx: Connection, resource_id: str, upload_id: str) -> int:
    """How many bytes one more part may have.

    A part whose answer was lost is sent again, so more may come than the file has: as much again, and a part.
    """
    upload = _require(tx, resource_id, upload_id)
    _check_pending(context, upload)
    count, length = uploads.stored(tx, upload_id)
    room = 2 * upload.bytes + MAX_PART_BYTES - length
    if count >= MAX_PARTS or room <= 0:
        raise _no_room()
    return min(room, MAX_PART_BYTES)


def _capped(chunks: Iterable[bytes], room: int) -> Iterator[bytes]:
    length = 0
    for chunk in chunks:
        length += len(chunk)
        if length > MAX_PART_BYTES:
            text = f"The part is larger than {MAX_PART_BYTES // 2**20} MiB. Send smaller parts."
            raise TooLarge("part_too_large", text, "data")
        if length > room:
            raise _no_room()
        yield chunk
    if length == 0:
        raise InvalidRequest("empty_part", "The part has no bytes.", "data")


def _no_room() -> TooLarge:
    text = f"The upload has more than {MAX_PARTS} parts, or far more bytes than announced. Complete or cancel it."
    return TooLarge("upload_too_large", text, "data")


def _check_parts(upload: Upload, known: dict[str, UploadPart], part_ids: Sequence[str]) -> None:
    for place, part_id in enumerate(part_ids):
        if part_id not in known:
            text = f"part_ids[{place}]: {part_id!r} is no part of {upload.id}."
            raise InvalidRequest("part_not_found", text, f"part_ids[{place}]")
    twice = [part_id for part_id, count in Counter(part_ids).items() if count > 1]
    if twice:
        raise InvalidRequest("part_named_twice", f"part_ids names {twice[0]} more than once.", "part_ids")
    length = sum(known[part_id].bytes for part_id in part_ids)
    if length != upload.bytes:
        text = f"The {len(part_ids)} parts named have {length} bytes; the upload was announced with {upload.bytes}."
        raise InvalidRequest("bytes_mismatch", text, "part_ids")


def _ended_alike(
    context: Context, tx: Connection, upload: Upload, part_ids: Sequence[str]
) -> tuple[Upload, File] | None:
    """The answer of an earlier call with the same parts, whose answer its caller may never have seen."""
    if upload.status is not UploadStatus.COMPLETED or upload.part_ids != tuple(part_ids) or upload.file_id is None:
        return None
    file = files.get(tx, upload.resource_id, upload.file_id, context.now())
    return None if file is None else (upload, file)


def _outcome_of_another(
    context: Context, resource_id: str, upload_id: str, part_ids: Sequence[str], error: Exception | None
) -> tuple[Upload, File]:
    with context.database.reading() as tx:
        upload = _require(tx, resource_id, upload_id)
        ended = _ended_alike(context, tx, upload, part_ids)
    if ended is None:
        raise Conflict("upload_ended", f"{upload_id} has ended meanwhile: it is {upload.status}.") from error
    return ended
