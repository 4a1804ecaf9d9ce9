"""Queries on files."""

from dataclasses import asdict

from sqlalchemy import Connection, insert, select

from luthier.core.models import File
from luthier.core.states import FilePurpose, FileStatus
from luthier.store import rows, schema

_files = schema.files
_columns = [column for column in _files.c if column.name != "seq"]


def insert_file(tx: Connection, file: File) -> None:
    tx.execute(insert(_files).values(asdict(file)))


def get(tx: Connection, resource_id: str, file_id: str) -> File | None:
    statement = select(*_columns).where(_files.c.id == file_id, _files.c.resource_id == resource_id)
    row = tx.execute(statement).mappings().first()
    return None if row is None else _file(row)


def list_page(
    tx: Connection,
    resource_id: str,
    purpose: str | None,
    after: str | None,
    limit: int,
    ascending: bool,
) -> tuple[list[File], bool]:
    statement = select(*_columns)
    if purpose is not None:
        statement = statement.where(_files.c.purpose == purpose)
    scope = _files.c.resource_id == resource_id
    found, more = rows.page(tx, statement, _files, scope, after, limit, ascending=ascending)
    return [_file(row) for row in found], more


def delete(tx: Connection, resource_id: str, file_id: str) -> bool:
    """Deletes the row; False where there was none."""
    statement = _files.delete().where(_files.c.id == file_id, _files.c.resource_id == resource_id)
    return tx.execute(statement).rowcount == 1


def _file(row: rows.Row) -> File:
    return File(**{**row, "purpose": FilePurpose(row["purpose"]), "status": FileStatus(row["status"])})
