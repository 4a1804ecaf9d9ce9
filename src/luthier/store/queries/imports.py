"""Queries on imports that are under way."""

from dataclasses import asdict

from sqlalchemy import Connection, insert, select

from luthier.core.models import FileImport
from luthier.store import schema

_imports = schema.file_imports
_resources = schema.resources
_has_resource = (
    select(_resources.c.id).where(_resources.c.id == _imports.c.resource_id, _resources.c.deleted_at.is_(None)).exists()
)


def insert_import(tx: Connection, pending: FileImport) -> None:
    tx.execute(insert(_imports).values(asdict(pending)))


def list_pending(tx: Connection) -> list[FileImport]:
    """All imports but those of deleted resources."""
    return [FileImport(**row) for row in tx.execute(select(_imports).where(_has_resource)).mappings()]


def is_pending(tx: Connection, file_id: str) -> bool:
    return (
        tx.execute(select(_imports.c.file_id).where(_imports.c.file_id == file_id, _has_resource)).first() is not None
    )


def delete(tx: Connection, file_id: str) -> None:
    """Deletes an import with its URL. Idempotent."""
    tx.execute(_imports.delete().where(_imports.c.file_id == file_id))
