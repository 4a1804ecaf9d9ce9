"""Queries on imports that are under way."""

from dataclasses import asdict

from sqlalchemy import Connection, insert, select

from luthier.core.models import FileImport
from luthier.store import schema

_imports = schema.file_imports


def insert_import(tx: Connection, pending: FileImport) -> None:
    tx.execute(insert(_imports).values(asdict(pending)))


def list_pending(tx: Connection) -> list[FileImport]:
    return [FileImport(**row) for row in tx.execute(select(_imports)).mappings()]


def delete(tx: Connection, file_id: str) -> None:
    """Ends an import, one that is not there included; its URL is not kept."""
    tx.execute(_imports.delete().where(_imports.c.file_id == file_id))
