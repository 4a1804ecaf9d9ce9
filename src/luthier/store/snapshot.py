"""A copy of a SQLite database as it is at one moment, made while others write to it; and what the rows of any say about
bytes.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, select

from luthier.core.errors import Unavailable
from luthier.core.states import FileStatus
from luthier.store import schema

_FOREIGN_HANDLE = " of a backup"
"""Appended to the handles of trainers: no executor finds a process by one, so that a restored service never takes the
trainer of the one it was copied from for its own."""
_REVISION = "SELECT version_num FROM alembic_version"


@dataclass(frozen=True, slots=True)
class StoredRows:
    """Rows that refer to bytes outside of the database. Of a file without bytes only the id is among `file_ids`."""

    file_ids: frozenset[str]
    ids_with_bytes: frozenset[str]
    """The files whose bytes must be in the blob store: not those of imports that go on, or that failed."""
    parts: Sequence[tuple[str, str]]
    """Upload and part of each part that is stored."""
    checkpoints: Sequence[tuple[str, tuple[str, ...]]]
    """Id and names of files of each checkpoint, copies included."""
    job_ids: frozenset[str]


def take(source_path: Path, path: Path) -> str:
    """Copies a database's file into a new one (mode 0600), consistent whatever is written meanwhile, by SQLite's online
    backup; returns the schema's revision. The handles of trainers in it name no process.

    Raises Unavailable if the copy is damaged, which it is if the database was, and OSError.
    """
    path.touch(mode=0o600, exist_ok=False)
    with closing(sqlite3.connect(source_path)) as source, closing(sqlite3.connect(path)) as copy:
        source.backup(copy)  # in one step: a reader's transaction of WAL, which holds up no writer
        (verdict,) = copy.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            text = f"The database {source_path} is damaged: {verdict}. Restore an earlier backup."
            raise Unavailable("database_damaged", text)
        copy.execute("UPDATE jobs SET handle = handle || ? WHERE handle IS NOT NULL", [_FOREIGN_HANDLE])
        copy.commit()
        (own_revision,) = copy.execute(_REVISION).fetchone()
    return str(own_revision)


def revision(tx: Connection) -> str:
    """The revision of the database's schema."""
    return str(tx.exec_driver_sql(_REVISION).scalar_one())


def stored_rows(tx: Connection) -> StoredRows:
    """The rows of all resources that may have bytes in the blob store or in the folders of runs."""
    files, parts = schema.files.c, schema.upload_parts.c
    checkpoints, copies = schema.checkpoints.c, schema.checkpoint_copies.c
    statuses = {row.id: row.status for row in tx.execute(select(files.id, files.status))}
    own = tx.execute(select(checkpoints.id, checkpoints.files))
    live_copies = tx.execute(select(copies.id, copies.files).where(copies.is_deleted.is_(False)))
    return StoredRows(
        file_ids=frozenset(statuses),
        ids_with_bytes=frozenset(id for id, status in statuses.items() if status == FileStatus.PROCESSED),
        parts=[(upload_id, id) for upload_id, id in tx.execute(select(parts.upload_id, parts.id))],
        checkpoints=[(id, tuple(names)) for id, names in (*own, *live_copies)],
        job_ids=frozenset(tx.execute(select(schema.jobs.c.id)).scalars()),
    )
