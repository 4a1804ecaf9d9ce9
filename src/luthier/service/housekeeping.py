"""What time takes away: expired files, uploads that were never finished, bytes that belong to nothing."""

import logging
from datetime import timedelta

from luthier.core.states import UploadStatus
from luthier.service import files as file_service
from luthier.service import uploads as upload_service
from luthier.service.context import Context
from luthier.store import files, imports, uploads

logger = logging.getLogger(__name__)

LEFTOVER_AGE = timedelta(hours=1)
"""Bytes are stored before their row: so young, they may belong to a request that is under way."""


def remove_expired(context: Context) -> None:
    """Ends every file and upload whose time is over. A job that waits for such a file finds it deleted."""
    now = context.now()
    with context.database.reading() as tx:
        expired, overdue = files.list_expired(tx, now), uploads.list_overdue(tx, now)
    for file in expired:
        with context.database.writing() as tx:
            files.delete(tx, file.resource_id, file.id)
            imports.delete(tx, file.id)
        file_service.delete_bytes(context, file.id)
        logger.info("file expired id=%s resource=%s", file.id, file.resource_id)
    for upload in overdue:
        upload_service.end(context, upload.id, UploadStatus.EXPIRED)


def sweep_leftovers(context: Context) -> None:
    """Deletes the bytes of files and parts that have no row: a kill came between the two."""
    before = context.now() - LEFTOVER_AGE
    for folder, exists in (("files", files.exists), ("reports", files.exists), ("uploads", uploads.part_exists)):
        for key, stored_at in list(context.blobs.keys(folder)):
            if stored_at >= before:
                continue
            with context.database.reading() as tx:
                kept = exists(tx, key.rpartition("/")[2])
            if not kept:
                context.blobs.delete(key)
                logger.info("leftover deleted key=%s", key)
