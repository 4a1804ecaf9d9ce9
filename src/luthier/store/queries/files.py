"""Queries on files."""

from dataclasses import asdict
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, insert, or_, select, update

from luthier.core.models import File
from luthier.core.states import FilePurpose, FileStatus
from luthier.store import row_mapping, schema

_files = schema.files
_columns = [column for column in _files.c if column.name != "seq"]


def insert_file(tx: Connection, file: File) -> None:
    tx.execute(insert(_files).values(asdict(file)))


def get(tx: Connection, resource_id: str, file_id: str, now: datetime) -> File | None:
    """The file, unless it has expired by now."""
    statement = select(*_columns).where(_files.c.id == file_id, _files.c.resource_id == resource_id, _is_kept(now))
    row = tx.execute(statement).mappings().first()
    return None if row is None else _file(row)


def list_ids(tx: Connection, resource_id: str) -> list[str]:
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
    """A page of the files that have not expired by now; one that has may still be the cursor."""
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
    return [_file(row) for row in tx.execute(select(*_columns).where(_files.c.expires_at <= now)).mappings()]


def all_ids(tx: Connection) -> set[str]:
    """The files of all resources, expired or not."""
    return set(tx.execute(select(_files.c.id)).scalars())


def oldest_unchecked(tx: Connection) -> File | None:
    """The oldest file with training data that has no details: nobody has looked at it yet."""
    unchecked = _files.c.status_details.is_(None) & (_files.c.purpose == FilePurpose.FINE_TUNE)
    statement = select(*_columns).where(unchecked, _files.c.status == FileStatus.PROCESSED).order_by(_files.c.seq)
    row = tx.execute(statement.limit(1)).mappings().first()
    return None if row is None else _file(row)


def set_details(tx: Connection, file_id: str, details: str) -> None:
    """Sets the status details of an existing file."""
    processed = (_files.c.id == file_id) & (_files.c.status == FileStatus.PROCESSED)
    tx.execute(update(_files).where(processed).values(status_details=details))


def end_import(
    tx: Connection, file_id: str, status: FileStatus, details: str | None, n_bytes: int, sha256: str
) -> bool:
    """Ends the import of a pending file; False where it was deleted meanwhile."""
    values = {"status": status, "status_details": details, "bytes": n_bytes, "sha256": sha256}
    pending = (_files.c.id == file_id) & (_files.c.status == FileStatus.PENDING)
    return tx.execute(update(_files).where(pending).values(values)).rowcount == 1


def _is_kept(now: datetime) -> ColumnElement[bool]:
    return or_(_files.c.expires_at.is_(None), _files.c.expires_at > now)


def _file(row: row_mapping.Row) -> File:
    return File(**{**row, "purpose": FilePurpose(row["purpose"]), "status": FileStatus(row["status"])})
