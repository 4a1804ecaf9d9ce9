"""Queries on the one row of the table `installation`, which says whose database this is; used by the start and the
background work of `service`. The functions that write need a transaction of `Database.writing`.
"""

from datetime import datetime

from sqlalchemy import Connection, select, update

from luthier.core.models import Installation
from luthier.store import schema

_installation = schema.installation
_WITH_BYTES = ("files", "uploads", "upload_parts", "jobs", "checkpoints", "checkpoint_copies")
"""Tables whose rows may have bytes in the blob store, or may get them."""


def get(tx: Connection) -> Installation:
    """The row, which the migration that makes the table inserts: NoResultFound without it is an internal fault."""
    return Installation(**tx.execute(select(_installation)).mappings().one())


def set_prefix(tx: Connection, prefix: str) -> None:
    """Records below which prefix of the blob store this installation's blobs are; "" is the store's root."""
    tx.execute(update(_installation).values(blob_prefix=prefix))


def set_behind(tx: Connection, since: datetime | None) -> None:
    """Records since when the database is known to be older than its blobs, which stops all sweeping; None clears it."""
    tx.execute(update(_installation).values(behind_since=since))


def set_clock(tx: Connection, settled_at: datetime, unsettled_s: float) -> None:
    """Records the state of the steady clock: the time up to which it was right, and for how many seconds a jump of the
    machine's clock has lasted that is not followed yet (service/steady_clock.py).
    """
    tx.execute(update(_installation).values(settled_at=settled_at, unsettled_s=unsettled_s))


def age(tx: Connection) -> int:
    """How many rows that may have bytes were ever inserted: a copy of the database from earlier has a smaller one.

    AUTOINCREMENT never gives a number twice, whatever is deleted, nor does an identity column. A migration that builds
    one of these tables anew must keep its number in sqlite_sequence, or in the sequence of the new column.
    """
    if tx.dialect.name == "sqlite":
        names = ", ".join(f"'{name}'" for name in _WITH_BYTES)
        sql = f"SELECT COALESCE(SUM(seq), 0) FROM sqlite_sequence WHERE name IN ({names})"
    else:
        names = ", ".join(f"'{name}_seq_seq'" for name in _WITH_BYTES)
        sql = (
            "SELECT COALESCE(SUM(last_value), 0) FROM pg_sequences "
            f"WHERE schemaname = current_schema() AND sequencename IN ({names})"
        )
    return int(tx.exec_driver_sql(sql).scalar_one())


def newest_ids(tx: Connection, limit: int) -> dict[str, set[str]]:
    """Ids of the `limit` newest rows of files, uploads and checkpoints, by the folder of the blob store in which their
    bytes are; an empty set for an empty table.
    """
    tables = (("files", schema.files.c), ("uploads", schema.uploads.c), ("checkpoints", schema.checkpoints.c))
    return {
        folder: set(tx.execute(select(columns.id).order_by(columns.seq.desc()).limit(limit)).scalars())
        for folder, columns in tables
    }
