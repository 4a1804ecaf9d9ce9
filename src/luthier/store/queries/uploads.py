"""Queries on uploads in parts, as rows; the bytes of a part are in the blob store. The functions that write need a
transaction of `Database.writing`.
"""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import Connection, func, insert, select, update

from luthier.core.models import Upload, UploadPart
from luthier.core.states import FilePurpose, UploadStatus
from luthier.store import row_mapping, schema

_uploads = schema.uploads
_parts = schema.upload_parts
_columns = [column for column in _uploads.c if column.name != "seq"]


def insert_upload(tx: Connection, upload: Upload) -> None:
    """Inserts the row of an upload that begins. IntegrityError for a taken id is an internal fault."""
    tx.execute(insert(_uploads).values(asdict(upload)))


def get(tx: Connection, resource_id: str, upload_id: str) -> Upload | None:
    """The upload, whatever its status; None if the resource has no such upload."""
    statement = select(*_columns).where(_uploads.c.id == upload_id, _uploads.c.resource_id == resource_id)
    row = tx.execute(statement).mappings().first()
    return None if row is None else _upload(row)


def list_overdue(tx: Connection, now: datetime) -> list[Upload]:
    """Uploads of all resources that are still pending though their time of expiry has come by `now`."""
    overdue = (_uploads.c.status == UploadStatus.PENDING) & (_uploads.c.expires_at <= now)
    return [_upload(row) for row in tx.execute(select(*_columns).where(overdue)).mappings()]


def parts_of_resource(tx: Connection, resource_id: str) -> list[UploadPart]:
    """The parts of all uploads of the resource that still have parts."""
    upload_ids = select(_uploads.c.id).where(_uploads.c.resource_id == resource_id)
    return [part for upload_id in tx.execute(upload_ids).scalars() for part in parts(tx, upload_id).values()]


def end(tx: Connection, upload_id: str, status: UploadStatus) -> bool:
    """Ends a pending upload without a file, as cancelled or expired; False, and nothing is written, if it was not
    pending any more.
    """
    pending = (_uploads.c.id == upload_id) & (_uploads.c.status == UploadStatus.PENDING)
    return tx.execute(update(_uploads).where(pending).values(status=status)).rowcount == 1


def complete(tx: Connection, upload_id: str, part_ids: Sequence[str], file_id: str) -> bool:
    """Ends a pending upload with the file of its parts, in the order of `part_ids`; False, and nothing is written, if
    it was not pending any more.
    """
    pending = (_uploads.c.id == upload_id) & (_uploads.c.status == UploadStatus.PENDING)
    values = {"status": UploadStatus.COMPLETED, "part_ids": list(part_ids), "file_id": file_id}
    return tx.execute(update(_uploads).where(pending).values(values)).rowcount == 1


def insert_part(tx: Connection, part: UploadPart) -> None:
    """Inserts the row of a part whose bytes are stored already."""
    tx.execute(insert(_parts).values(asdict(part)))


def parts(tx: Connection, upload_id: str) -> dict[str, UploadPart]:
    """The parts of an upload by id, in the order in which they were stored; empty if it has none or has ended."""
    statement = select(_parts).where(_parts.c.upload_id == upload_id).order_by(_parts.c.seq)
    rows = tx.execute(statement).mappings()
    return {row["id"]: UploadPart(row["id"], row["upload_id"], row["bytes"], row["created_at"]) for row in rows}


def stored(tx: Connection, upload_id: str) -> tuple[int, int]:
    """How many parts an upload has, and how many bytes they hold together; (0, 0) if it has none."""
    statement = select(func.count(), func.coalesce(func.sum(_parts.c.bytes), 0)).where(_parts.c.upload_id == upload_id)
    count, length = tx.execute(statement).one()
    return int(count), int(length)


def all_part_ids(tx: Connection) -> set[str]:
    """The ids of the parts of all resources: whose blobs are not orphaned."""
    return set(tx.execute(select(_parts.c.id)).scalars())


def delete_parts(tx: Connection, upload_id: str) -> None:
    """Deletes the rows of an upload's parts; their blobs are the caller's to delete."""
    tx.execute(_parts.delete().where(_parts.c.upload_id == upload_id))


def _upload(row: row_mapping.Row) -> Upload:
    return Upload(
        **{
            **row,
            "purpose": FilePurpose(row["purpose"]),
            "status": UploadStatus(row["status"]),
            "part_ids": None if row["part_ids"] is None else tuple(row["part_ids"]),
        }
    )
