"""Queries on the imports of files from a URL that are under way: a row lasts from the request to the end of its import,
since its URL may contain a credential. The functions that write need a transaction of `Database.writing`.
"""

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
    """Inserts the row with the URL. IntegrityError for a file that has one already is an internal fault."""
    tx.execute(insert(_imports).values(asdict(pending)))


def list_pending(tx: Connection) -> list[FileImport]:
    """The imports of all resources, but those of deleted ones, in no stated order."""
    return [FileImport(**row) for row in tx.execute(select(_imports).where(_has_resource)).mappings()]


def is_pending(tx: Connection, file_id: str) -> bool:
    """Whether the import is still to be done; False once it has ended or its file or resource was deleted."""
    return (
        tx.execute(select(_imports.c.file_id).where(_imports.c.file_id == file_id, _has_resource)).first() is not None
    )


def delete(tx: Connection, file_id: str) -> None:
    """Deletes an import's row with its URL. Idempotent."""
    tx.execute(_imports.delete().where(_imports.c.file_id == file_id))
