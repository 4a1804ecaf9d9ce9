"""Copies of checkpoints for another resource, independent of the original's lifetime."""

import logging
import tempfile
from collections.abc import Callable
from dataclasses import replace

from luthier import atomic_io
from luthier.core import ids
from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.models import Checkpoint, CheckpointCopy, ResourceName
from luthier.service.context import Context
from luthier.service.jobs import jobs
from luthier.service.models import models
from luthier.service.tenants import resources
from luthier.store.db import Connection
from luthier.store.queries import checkpoints, copies
from luthier.store.queries import resources as resource_rows

logger = logging.getLogger(__name__)

MAX_COPIES = 20
"""Destinations of one checkpoint: names cost nothing to invent, and each takes the storage of a model."""


def create_copy(
    context: Context,
    resource_id: str,
    job_id: str,
    name: str,
    destination_id: str,
    region: str,
    check_caller: Callable[[], None] = lambda: None,
) -> Checkpoint:
    """Copies a checkpoint's blobs and row for the resource that a control-plane id names; returns the original.

    Whether a resource of that name exists changes nothing in what is copied, stored or answered, nor in the time it
    takes: a tenant cannot learn who the others are. So the blobs are copied even if the destination has them and keeps
    its own. Raises NotFound for job or checkpoint, InvalidRequest for an id that cannot name another resource and for
    too many destinations, and whatever `check_caller` raises once the blobs are copied.
    """
    jobs.get(context, resource_id, job_id)
    with context.database.reading() as tx:
        source = _of_job(tx, job_id, name)
        destination = _destination(tx, resource_id, destination_id)
        _check_limit(tx, source, destination)
    copy = replace(source, id=ids.checkpoint_id(context.new_hex()), created_at=context.now(), copied_from=source.id)
    is_kept = False
    try:
        for file in source.files:
            _copy_blob(context, models.blob_key(source.id, file), models.blob_key(copy.id, file))
        check_caller()
        with context.database.writing() as tx:
            _of_job(tx, job_id, name)
            _check_limit(tx, source, destination)
            is_kept = copies.put_copy(tx, CheckpointCopy(copy, destination, region))
    except FileNotFoundError as error:
        raise models.not_found(name) from error
    finally:
        if not is_kept:
            models.delete_bytes(context, copy)
    logger.info("checkpoint copied id=%s resource=%s", source.id, resource_id)
    return source


def list_copies(context: Context, resource_id: str, job_id: str, name: str) -> tuple[Checkpoint, list[CheckpointCopy]]:
    """A job's checkpoint, by id or model name, and all its copies, those that their destinations deleted included.

    Raises NotFound for the job or the checkpoint.
    """
    jobs.get(context, resource_id, job_id)
    with context.database.reading() as tx:
        source = _of_job(tx, job_id, name)
        return source, copies.list_of_checkpoint(tx, source.id)


def delete_orphaned(context: Context) -> None:
    """Deletes copies of a deleted checkpoint that no resource has: marks the row, deletes the blobs, then the row."""
    with context.database.reading() as tx:
        if not copies.has_orphaned(tx):
            return
    with context.database.writing() as tx:
        copies.mark_orphaned(tx)
        orphaned = copies.list_orphaned(tx)
    for copy in orphaned:
        models.delete_bytes(context, copy)
        with context.database.writing() as tx:
            copies.remove(tx, copy.id)
        logger.info("copy without an owner deleted id=%s", copy.id)


def _copy_blob(context: Context, source: str, target: str) -> None:
    """Copies one blob through a temporary file in `served_folder`: a store cannot be read while the same request writes
    to it. Raises FileNotFoundError if the source was deleted.
    """
    context.served_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=context.served_folder) as stream:
        stream.writelines(context.blobs.open(source))
        stream.seek(0)
        context.blobs.put(target, atomic_io.stream_chunks(stream))


def _of_job(tx: Connection, job_id: str, name: str) -> Checkpoint:
    """The job's checkpoint of that id or model name. Raises NotFound."""
    checkpoint = checkpoints.of_job(tx, job_id, name)
    if checkpoint is None:
        raise NotFound(
            "checkpoint_not_found",
            f"There is no checkpoint {name!r} of {job_id}. GET .../fine_tuning/jobs/{job_id}/checkpoints lists them.",
        )
    return checkpoint


def _check_limit(tx: Connection, source: Checkpoint, destination: ResourceName) -> None:
    """Raises InvalidRequest if the checkpoint has been copied for MAX_COPIES other destinations."""
    if copies.count_for_others(tx, source.id, destination) >= MAX_COPIES:
        text = f"A checkpoint can be copied for {MAX_COPIES} resources at most."
        raise InvalidRequest("too_many_copies", text, "destinationResourceId")


def _destination(tx: Connection, resource_id: str, destination_id: str) -> ResourceName:
    """The name in a control-plane id. Raises InvalidRequest for another form and for the caller's own name; whether
    there is a resource of that name is not looked up.
    """
    parts = ids.account_parts(destination_id)
    name = ResourceName(*parts) if parts else None
    own = resource_rows.get(tx, resource_id)
    if name is None or not resources.is_valid_name(name) or (own is not None and name.is_of(own)):
        raise InvalidRequest(
            "invalid_destination",
            "destinationResourceId must be /subscriptions/{s}/resourceGroups/{g}/providers/"
            "Microsoft.CognitiveServices/accounts/{a} of another resource; its owner knows it.",
            "destinationResourceId",
        )
    return name
