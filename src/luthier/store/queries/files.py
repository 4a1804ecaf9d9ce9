"""Queries on the rows of files; their bytes are in the blob store, which no function here touches. The functions that
write need a transaction of `Database.writing`.
"""

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, insert, or_, select, update

from luthier.core.models import File
from luthier.core.states import FilePurpose, FileStatus
from luthier.store import row_mapping, schema

_files = schema.files
_columns = [column for column in _files.c if column.name != "seq"]


def insert_file(tx: Connection, file: File) -> None:
    """Inserts the row. IntegrityError for an id that has one already is an internal fault."""
    tx.execute(insert(_files).values(asdict(file)))


def get(tx: Connection, resource_id: str, file_id: str, now: datetime) -> File | None:
    """The file; None if the resource has no such file, or it has expired by now."""
    statement = select(*_columns).where(_files.c.id == file_id, _files.c.resource_id == resource_id, _is_kept(now))
    row = tx.execute(statement).mappings().first()
    return None if row is None else _file(row)


def list_ids(tx: Connection, resource_id: str) -> list[str]:
    """The ids of all files of the resource, expired ones included, in no stated order."""
    return list(tx.execute(select(_files.c.id).where(_files.c.resource_id == resource_id)).scalars())


def list_page(
    tx: Connection,
    resource_id: str,
    purpose: str | None,
    after: str | None,
    limit: int,
    ascending: bool,
    now: datetime,
) -> tuple[list[File], bool]:
    """A page of the files that have not expired by now, and whether more follow; one that has may still be the cursor.
    `purpose` None means any. Raises InvalidRequest, the caller's 400, if `after` is not a file of the resource.
    """
    statement = select(*_columns).where(_is_kept(now))
    if purpose is not None:
        statement = statement.where(_files.c.purpose == purpose)
    scope = _files.c.resource_id == resource_id
    rows, more = row_mapping.page(tx, statement, _files, scope, after, limit, ascending=ascending)
    return [_file(row) for row in rows], more


def delete(tx: Connection, resource_id: str, file_id: str) -> bool:
    """Deletes the row; False if there was none."""
    statement = _files.delete().where(_files.c.id == file_id, _files.c.resource_id == resource_id)
    return tx.execute(statement).rowcount == 1


def list_expired(tx: Connection, now: datetime) -> list[File]:
    """Every file, of all resources, whose time of expiry has come by `now`; its row still exists."""
    return [_file(row) for row in tx.execute(select(*_columns).where(_files.c.expires_at <= now)).mappings()]


def all_ids(tx: Connection) -> set[str]:
    """The ids of the files of all resources, expired or not: whose blobs are not orphaned."""
    return set(tx.execute(select(_files.c.id)).scalars())


def oldest_unchecked(tx: Connection) -> File | None:
    """The oldest file of all resources with training data, fully stored, that nobody has checked yet (it has no
    details); None if all are checked.
    """
    unchecked = _files.c.status_details.is_(None) & (_files.c.purpose == FilePurpose.FINE_TUNE)
    statement = select(*_columns).where(unchecked, _files.c.status == FileStatus.PROCESSED).order_by(_files.c.seq)
    row = tx.execute(statement.limit(1)).mappings().first()
    return None if row is None else _file(row)


def set_details(tx: Connection, file_id: str, details: str) -> None:
    """Writes the outcome of a file's check as its status details; does nothing if the file was deleted meanwhile."""
    processed = (_files.c.id == file_id) & (_files.c.status == FileStatus.PROCESSED)
    tx.execute(update(_files).where(processed).values(status_details=details))


def end_import(
    tx: Connection, file_id: str, status: FileStatus, details: str | None, n_bytes: int, sha256: str
) -> bool:
    """Writes status, details, length in bytes and sha256 of a file whose import has ended; False, and nothing is
    written, if it was deleted meanwhile.
    """
    values = {"status": status, "status_details": details, "bytes": n_bytes, "sha256": sha256}
    pending = (_files.c.id == file_id) & (_files.c.status == FileStatus.PENDING)
    return tx.execute(update(_files).where(pending).values(values)).rowcount == 1


def _is_kept(now: datetime) -> ColumnElement[bool]:
    """The condition on files that have not expired by now; one without a time of expiry never does."""
    return or_(_files.c.expires_at.is_(None), _files.c.expires_at > now)


def _file(row: row_mapping.Row) -> File:
    return File(**{**row, "purpose": FilePurpose(row["purpose"]), "status": FileStatus(row["status"])})
