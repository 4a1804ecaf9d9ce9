"""Removes what deleted resources had: jobs, files, parts of uploads, checkpoints, deployments."""

import logging

from luthier.core.states import TERMINAL_JOB_STATUSES
from luthier.service.context import Context
from luthier.service.files import files
from luthier.service.files import uploads as upload_service
from luthier.service.jobs import jobs as job_service
from luthier.service.models import models
from luthier.service.models.serving_port import ServedModels
from luthier.store.queries import checkpoints, deployments, jobs, resources, uploads
from luthier.store.queries import files as file_rows

logger = logging.getLogger(__name__)


def purge_deleted(context: Context, serving: ServedModels) -> None:
    """Removes what deleted resources had, once none of their jobs has a process: blobs first, rows last.

    No key opens them any more, so a crash in between leaves only what the next pass removes.
    """
    with context.database.reading() as tx:
        deleted = resources.list_deleted(tx)
    for resource in deleted:
        if _end_jobs(context, resource.id):
            _purge(context, serving, resource.id)


def _end_jobs(context: Context, resource_id: str) -> bool:
    """Cancels the resource's open jobs; True once the supervisor has removed the runs of all."""
    with context.database.reading() as tx:
        own_jobs = [job for job in jobs.list_open(tx) if job.resource_id == resource_id]
    for job in own_jobs:
        if job.status not in TERMINAL_JOB_STATUSES:
            job_service.cancel(context, resource_id, job.id)
    with context.database.reading() as tx:
        return not any(job.resource_id == resource_id for job in jobs.list_unreleased(tx))


def _purge(context: Context, serving: ServedModels, resource_id: str) -> None:
    """Deletes the resource's blobs and unloads its models, then removes all its rows in one transaction.

    The rows stay for the next pass if a running request has added something meanwhile.
    """
    with context.database.reading() as tx:
        file_ids = set(file_rows.list_ids(tx, resource_id))
        tuned = checkpoints.list_held(tx, resource_id)
        served = deployments.list_all(tx, resource_id)
        parts = uploads.parts_of_resource(tx, resource_id)
    for file_id in file_ids:
        files.delete_bytes(context, file_id)
    for part in parts:
        context.blobs.delete(upload_service.blob_key(part.upload_id, part.id))
    for checkpoint in tuned:
        serving.discard(checkpoint)
        models.delete_bytes(context, checkpoint)
    with context.database.writing() as tx:
        if set(file_rows.list_ids(tx, resource_id)) - file_ids or checkpoints.list_held(tx, resource_id) != tuned:
            return  # a running request has added something: the next pass removes it
        resources.remove(tx, resource_id)
    logger.info("resource purged id=%s files=%d deployments=%d", resource_id, len(file_ids), len(served))
