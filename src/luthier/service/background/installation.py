"""Ownership of a blob store: an installation puts a marker into its store and refuses one of another installation.

The marker holds the id, and the age of the database that last wrote it: a database that is younger than its marker was
restored from a backup, or is the wrong one, and does not have a row for every blob.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime

from luthier.core.errors import Conflict
from luthier.core.models import Installation
from luthier.core.ports import BlobStore
from luthier.store import installation as row
from luthier.store.db import Database

logger = logging.getLogger(__name__)

MARKER = "luthier-installation.json"
FORMAT = 1
FOLDERS = ("files", "reports", "uploads", "checkpoints")
"""The folders below its prefix in which the service stores blobs; it reads no others."""
_SAMPLED_ROWS = 1000


@dataclass(frozen=True, slots=True)
class Marker:
    """An installation's mark in its blob store: its id, when it was created (ISO 8601), and the `age` of the database
    when the marker was written (store.installation.age).
    """

    format: int
    id: str
    created: str
    age: int


@dataclass(frozen=True, slots=True)
class StoreLocation:
    """A blob store, its description for messages, and whether others may store their objects in it too."""

    store: BlobStore
    description: str
    is_shared: bool


def claim(database: Database, location: StoreLocation, now: datetime) -> Installation:
    """Checks that the blob store belongs to this database; returns the installation with its prefix in the store.

    The first call decides the prefix and writes the marker. Raises Conflict for a store of another installation, for
    one whose blobs have no row, and for one that has lost its marker; then nothing is changed. A database that is
    older than the blobs is recorded: the service runs, and nothing is swept until `adopt`.
    """
    with database.reading() as tx:
        own, age, newest_ids = row.get(tx), row.age(tx), row.newest_ids(tx, _SAMPLED_ROWS)
    if own.blob_prefix is None:
        prefix = _choose_prefix(own, location, newest_ids)
        _write_marker(location.store, prefix, own, age)
        with database.writing() as tx:
            row.set_prefix(tx, prefix)
            return row.get(tx)
    marker = read_marker(location.store, own.blob_prefix)
    if marker is None:
        raise Conflict(
            "store_not_marked",
            f"{location.description} lacks {_key(own.blob_prefix)}, which this installation ({own.id}) wrote there: it "
            "is another store, an empty one, or not mounted. Nothing was changed. Name the right one, or restore the "
            f"file; if it is the right one after all: {_ADOPT}",
        )
    if marker.id != own.id:
        raise _of_another(location, marker, own)
    if marker.age > age and own.behind_since is None:
        with database.writing() as tx:
            row.set_behind(tx, now)
    with database.reading() as tx:
        own = row.get(tx)
    if own.behind_since is not None:
        logger.warning("%s", older_database_message(own))
    return own


def get(database: Database) -> Installation:
    """The installation that the database belongs to."""
    with database.reading() as tx:
        return row.get(tx)


def adopt(database: Database, location: StoreLocation) -> Installation:
    """Makes the store this database's own, on the operator's word: writes the marker and forgets that the database was
    older. Deletes and moves nothing by itself.
    """
    with database.reading() as tx:
        own, age = row.get(tx), row.age(tx)
    prefix = own.blob_prefix or ""
    _write_marker(location.store, prefix, own, age)
    with database.writing() as tx:
        row.set_prefix(tx, prefix)
        row.set_behind(tx, None)
        return row.get(tx)


def older_database_message(own: Installation) -> str:
    """The warning about a database that is older than the blobs."""
    since = "" if own.behind_since is None else f" (since {own.behind_since:%Y-%m-%d %H:%M} UTC)"
    return (
        f"The database is older than the stored files{since}: it was restored from a backup, or is not the newest one. "
        "Files without a row stay where they are, and nothing is swept. Restore the newest database; if this one is "
        f"to stay: {_ADOPT} Files without a row are then moved to lost-and-found an hour after the next start."
    )


def update_marker(database: Database, blobs: BlobStore, own: Installation, written: int | None) -> int:
    """Writes the present age of the database into the marker, unless that is `written`; returns it. Raises NoSpace."""
    with database.reading() as tx:
        age = row.age(tx)
    if age != written:
        _write_marker(blobs, "", own, age)
    return age


def read_marker(blobs: BlobStore, prefix: str = "") -> Marker | None:
    """The marker at a prefix; None if there is none. Raises Conflict for one that is damaged or of a newer version."""
    try:
        data = b"".join(blobs.open(_key(prefix)))
    except FileNotFoundError:
        return None
    try:
        fields = json.loads(data)
        marker = Marker(int(fields["format"]), str(fields["id"]), str(fields["created"]), int(fields["age"]))
    except (ValueError, TypeError, KeyError) as error:
        text = f"{_key(prefix)} in the blob store is damaged. Restore it from a backup, or: {_ADOPT}"
        raise Conflict("marker_unreadable", text) from error
    if marker.format > FORMAT:
        text = f"The blob store is of a newer version of Luthier ({_key(prefix)} has format {marker.format}). Update."
        raise Conflict("store_of_newer_version", text)
    return marker


_ADOPT = "stop every service on it, run `luthier storage adopt`, and start again."


def _choose_prefix(own: Installation, location: StoreLocation, newest_ids: dict[str, set[str]]) -> str:
    """The prefix of the blobs: none in a store of its own, one of its own in a store that others share.

    A shared store in which this database already has blobs at the root, as older versions did, stays like that. Raises
    Conflict for another installation's store, and for one of its own whose blobs have no row.
    """
    marker = read_marker(location.store)
    if marker is not None and marker.id == own.id:
        return ""
    has_own = any(_has_blobs_of(location.store, folder, ids) for folder, ids in newest_ids.items())
    if marker is not None and (has_own or not location.is_shared):
        raise _of_another(location, marker, own)
    if has_own:
        return ""
    if location.is_shared:
        return f"luthier-{own.id}"
    if (first := next(_keys(location.store), None)) is not None:
        raise Conflict(
            "store_unknown",
            f"{location.description} has {first} and more without a row in the database: the database is new, or "
            "another one. Nothing was changed. Restore the right luthier.db, or choose another data folder; if they "
            f"are to be this database's: {_ADOPT}",
        )
    return ""


def _has_blobs_of(store: BlobStore, folder: str, ids: set[str]) -> bool:
    """Whether the store has a blob of one of the ids in the folder; lists the folder."""
    return bool(ids) and any(blob.key.split("/")[1] in ids for blob in store.stored(folder))


def _keys(store: BlobStore) -> Iterator[str]:
    return (blob.key for folder in FOLDERS for blob in store.stored(folder))


def _of_another(location: StoreLocation, marker: Marker, own: Installation) -> Conflict:
    """The error for a store that bears the marker of another installation."""
    return Conflict(
        "store_of_another",
        f"{location.description} belongs to the installation {marker.id}, created {marker.created:.19}; the database "
        f"here is of {own.id}. Nothing was changed. Choose another store, or restore the right luthier.db; if they "
        f"are to be this database's: {_ADOPT}",
    )


def _write_marker(store: BlobStore, prefix: str, own: Installation, age: int) -> None:
    """Writes the marker at a prefix, in place of one that is there."""
    marker = Marker(FORMAT, own.id, own.created_at.isoformat(), age)
    store.put(_key(prefix), [json.dumps(asdict(marker), indent=2).encode() + b"\n"])


def _key(prefix: str) -> str:
    return f"{prefix}/{MARKER}" if prefix else MARKER
