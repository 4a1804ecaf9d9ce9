"""Copies of checkpoints: a whole model put into another resource, where it stays whatever becomes of the first."""

import hashlib
import logging
import tempfile
from dataclasses import replace

from luthier.core import ids
from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.models import Checkpoint, CheckpointCopy, Resource
from luthier.service import jobs, models
from luthier.service.context import Context
from luthier.store import checkpoints, copies, resources
from luthier.store.db import Connection

logger = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20


def make(context: Context, resource_id: str, job_id: str, name: str, destination_id: str, region: str) -> Checkpoint:
    """Copies files and row to the resource that the control plane's id names; returns the checkpoint that was copied.

    A copy that is there already stays as it is. Raises NotFound for job or checkpoint, InvalidRequest for the resource.
    """
    jobs.get(context, resource_id, job_id)
    with context.database.reading() as tx:
        source = _of_job(tx, job_id, name)
        destination = _destination(tx, resource_id, destination_id)
    copy_id = ids.checkpoint_id(hashlib.sha256(f"{source.id} to {destination.id}".encode()).hexdigest()[:32])
    made = replace(source, id=copy_id, resource_id=destination.id, created_at=context.now(), copied_from=source.id)
    with context.database.reading() as tx:
        if copies.find(tx, destination.id, copy_id) is not None:
            return source
    try:
        for file in source.files:
            _copy_blob(context, models.blob_key(source.id, file), models.blob_key(copy_id, file))
    except FileNotFoundError as error:
        models.delete_bytes(context, made)
        raise models.not_found(name) from error
    with context.database.writing() as tx:
        if copies.find(tx, destination.id, copy_id) is None:  # else another call was faster, with the same bytes
            copies.insert_copy(tx, CheckpointCopy(made, resource_id, region))
    logger.info("checkpoint copied id=%s resource=%s to=%s", source.id, resource_id, destination.id)
    return source


def list_of(
    context: Context, resource_id: str, job_id: str, name: str
) -> tuple[Checkpoint, list[tuple[CheckpointCopy, Resource]]]:
    """A job's checkpoint, and its copies with the resources that have them."""
    jobs.get(context, resource_id, job_id)
    with context.database.reading() as tx:
        source = _of_job(tx, job_id, name)
        found = []
        for copy in copies.list_of_checkpoint(tx, source.id):
            resource = resources.get(tx, copy.checkpoint.resource_id)
            if resource is not None:
                found.append((copy, resource))
        return source, found


def _copy_blob(context: Context, source: str, target: str) -> None:
    """By way of a file without a name: a store that is being written to cannot be read from in the same breath."""
    context.served_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=context.served_folder) as stream:
        stream.writelines(context.blobs.open(source))
        stream.seek(0)
        context.blobs.put(target, iter(lambda: stream.read(_CHUNK_BYTES), b""))


def _of_job(tx: Connection, job_id: str, name: str) -> Checkpoint:
    checkpoint = checkpoints.of_job(tx, job_id, name)
    if checkpoint is None:
        raise NotFound(
            "checkpoint_not_found",
            f"There is no checkpoint {name!r} of {job_id}. GET .../fine_tuning/jobs/{job_id}/checkpoints lists them.",
        )
    return checkpoint


def _destination(tx: Connection, resource_id: str, destination_id: str) -> Resource:
    parts = ids.account_parts(destination_id)
    resource = resources.of_account(tx, *parts) if parts else None
    if resource is None or resource.id == resource_id:
        raise InvalidRequest(
            "destination_not_found",
            "destinationResourceId must be /subscriptions/{s}/resourceGroups/{g}/providers/"
            "Microsoft.CognitiveServices/accounts/{a} of another resource of this installation.",
            "destinationResourceId",
        )
    return resource
