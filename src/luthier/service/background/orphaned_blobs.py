"""Blobs without a row: moved to lost-and-found, kept for a stated time, restored once a row has them again."""

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from luthier.core.ports import StoredBlob
from luthier.service.context import Context
from luthier.store.queries import files, uploads

logger = logging.getLogger(__name__)

FOLDER = "lost-and-found"
SWEPT = ("files", "reports", "uploads")
_OURS = re.compile(r"(?:files|reports)/file-[0-9a-f]{32}|uploads/upload_[0-9a-f]{32}/part_[0-9a-f]{32}")
"""Keys as this service makes them. A blob with any other key is somebody else's."""
_LOST = re.compile(rf"{FOLDER}/(\d{{4}}-\d\d-\d\d)/({_OURS.pattern})")


@dataclass(frozen=True, slots=True)
class Lost:
    """A blob in lost-and-found: its key there, its original key, its length, and the day it was moved."""

    key: str
    original_key: str
    bytes: int
    day: date


def list_orphans(context: Context) -> dict[str, StoredBlob]:
    """Every blob under a key of this service that has no row, by key."""
    stored = [blob for folder in SWEPT for blob in context.blobs.stored(folder) if _OURS.fullmatch(blob.key)]
    row_ids = _ids_of_rows(context)  # after the list: bytes are stored before their row
    return {blob.key: blob for blob in stored if _id(blob.key) not in row_ids}


def move_to_lost(context: Context, lost: list[StoredBlob]) -> None:
    """Moves blobs below lost-and-found/{today}/, where they keep their keys; logs their number and bytes."""
    day = f"{context.deletion_time():%Y-%m-%d}"
    for blob in lost:
        context.blobs.move(blob.key, f"{FOLDER}/{day}/{blob.key}")
    if lost:
        total = sum(blob.bytes for blob in lost)
        logger.warning("blobs without a row moved count=%d bytes=%d to=%s/%s", len(lost), total, FOLDER, day)


def list_lost(context: Context) -> Iterator[Lost]:
    """Every blob in lost-and-found; other objects there are left out."""
    for blob in context.blobs.stored(FOLDER):
        if (match := _LOST.fullmatch(blob.key)) is not None:
            yield Lost(blob.key, match[2], blob.bytes, date.fromisoformat(match[1]))


def restore(context: Context) -> int:
    """Moves back blobs that have a row again, unless their key is taken; returns how many."""
    row_ids = _ids_of_rows(context)
    restorable = [lost for lost in list_lost(context) if _id(lost.original_key) in row_ids]
    present = {blob.key for folder in SWEPT for blob in context.blobs.stored(folder)} if restorable else set()
    restorable = [lost for lost in restorable if lost.original_key not in present]
    for lost in restorable:
        context.blobs.move(lost.key, lost.original_key)
    if restorable:
        logger.warning("blobs with a row again restored count=%d", len(restorable))
    return len(restorable)


def copy_out(context: Context, folder: Path) -> int:
    """Copies lost-and-found into a new local folder, by day and key; returns how many. Raises FileExistsError."""
    folder.mkdir(mode=0o700, parents=True)
    count = 0
    for lost in list_lost(context):
        path = folder / lost.key.removeprefix(f"{FOLDER}/")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            stream.writelines(context.blobs.open(lost.key))
        count += 1
    return count


def delete_older(context: Context, before: datetime) -> tuple[int, int]:
    """Deletes what was moved to lost-and-found on a day before that of `before`; returns count and bytes."""
    old = [lost for lost in list_lost(context) if lost.day < before.date()]
    for lost in old:
        context.blobs.delete(lost.key)
    total = sum(lost.bytes for lost in old)
    if old:
        logger.warning("lost blobs deleted count=%d bytes=%d", len(old), total)
    return len(old), total


def delete_kept_for(context: Context, keep: timedelta) -> tuple[int, int]:
    """Deletes what has been in lost-and-found for longer than `keep`, by whole days; returns count and bytes."""
    return delete_older(context, context.deletion_time() - keep)


def _ids_of_rows(context: Context) -> set[str]:
    """The ids of the files and upload parts of all resources."""
    with context.database.reading() as tx:
        return files.all_ids(tx) | uploads.all_part_ids(tx)


def _id(key: str) -> str:
    return key.rpartition("/")[2]
