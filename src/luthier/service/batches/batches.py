"""Batches: create, get, list, cancel. The runner does the rest."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from luthier.core import ids
from luthier.core.errors import Conflict, InvalidRequest, NotFound, QuotaExceeded
from luthier.core.inference.batches import MAX_BATCH_BYTES, Batch
from luthier.core.models import File
from luthier.core.states import BatchStatus, FilePurpose, FileStatus
from luthier.service.context import Context
from luthier.service.files import files as file_service
from luthier.store.db import Connection
from luthier.store.queries import files
from luthier.store.queries.inference import batches

logger = logging.getLogger(__name__)

WINDOW = timedelta(hours=24)
COMPLETION_WINDOW = "24h"
MAX_OPEN_BATCHES = 100
"""Of one resource: each has its own copy of its input file while it is open."""


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """A request for a batch as its dialect has read it; `output_expires_after_s` None is never."""

    dialect: str
    endpoint: str
    input_file: str
    metadata: Mapping[str, str] | None
    output_expires_after_s: int | None


def create(context: Context, resource_id: str, request: BatchRequest) -> Batch:
    """Inserts a batch, to be validated. Raises NotFound for a file that the resource does not have, InvalidRequest for
    one that cannot be a batch, and QuotaExceeded.
    """
    now = context.now()
    batch = Batch(
        id=ids.batch_id(context.new_hex()),
        resource_id=resource_id,
        dialect=request.dialect,
        endpoint=request.endpoint,
        input_file=request.input_file,
        completion_window=COMPLETION_WINDOW,
        metadata=request.metadata,
        output_expires_after_s=request.output_expires_after_s,
        status=BatchStatus.VALIDATING,
        created_at=now,
        expires_at=context.lifetime_start(now) + WINDOW,
    )
    with context.database.writing() as tx:
        file = files.get(tx, resource_id, request.input_file, now)
        if file is None:
            raise file_service.not_found(request.input_file, "input_file_id")
        _check_file(file)
        if batches.count_open(tx, resource_id) >= MAX_OPEN_BATCHES:
            text = (
                f"{MAX_OPEN_BATCHES} batches are open already, the most that may. Wait until one ends, or cancel one."
            )
            raise QuotaExceeded("open_batches_quota_exceeded", text)
        batches.insert_batch(tx, batch)
    logger.info("batch created id=%s resource=%s", batch.id, resource_id)
    return batch


def get(context: Context, resource_id: str, batch_id: str) -> Batch:
    """One batch of the resource; the counts of one in progress are some seconds old. Raises NotFound."""
    with context.database.reading() as tx:
        return _require(tx, resource_id, batch_id)


def list_page(context: Context, resource_id: str, after: str | None, limit: int) -> tuple[list[Batch], bool]:
    """A page of the resource's batches after the id `after`, newest first, and whether more follow.

    Raises InvalidRequest for an `after` that is none of its batches.
    """
    with context.database.reading() as tx:
        return batches.list_page(tx, resource_id, after, limit)


def cancel(context: Context, resource_id: str, batch_id: str) -> Batch:
    """Asks for the end of a batch: answers that are there will be in its files. One that is being cancelled is returned
    as it is. Raises NotFound, and Conflict for one that has ended or is about to.
    """
    with context.database.writing() as tx:
        sources = [BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS]
        moved = (
            batches.move(tx, batch_id, sources, BatchStatus.CANCELLING, cancelling_at=context.now())
            if (batches.get(tx, resource_id, batch_id) is not None)
            else False
        )
        batch = _require(tx, resource_id, batch_id)
    if not moved and batch.status is not BatchStatus.CANCELLING:
        raise Conflict("batch_ended", f"{batch_id} cannot be cancelled: it is {batch.status} already.")
    logger.info("batch cancelling id=%s", batch_id)
    return batch


def _require(tx: Connection, resource_id: str, batch_id: str) -> Batch:
    """The batch, if it is the resource's. Raises NotFound."""
    batch = batches.get(tx, resource_id, batch_id)
    if batch is None:
        text = f"There is no batch {batch_id!r} here. GET .../batches lists the batches of this resource."
        raise NotFound("batch_not_found", text)
    return batch


def _check_file(file: File) -> None:
    """Raises InvalidRequest for a file that cannot be a batch's input."""
    param = "input_file_id"
    if file.status is not FileStatus.PROCESSED:
        text = f"{param}: {file.id} has no content yet, or its import has failed. GET .../files/{file.id} says which."
        raise InvalidRequest("file_not_ready", text, param)
    if file.purpose is not FilePurpose.BATCH:
        text = f"{param}: {file.id} has purpose {str(file.purpose)!r}. Upload it again with purpose='batch'."
        raise InvalidRequest("invalid_purpose", text, param)
    if file.bytes > MAX_BATCH_BYTES:
        text = f"{param}: {file.id} has {file.bytes:,} bytes; a batch may have {MAX_BATCH_BYTES:,}. Split it."
        raise InvalidRequest("file_too_large", text, param)
