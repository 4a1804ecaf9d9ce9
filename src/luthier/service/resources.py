"""Resources, the tenants: made, listed, deleted; and the end of all that a deleted one held."""

import logging
import re
from datetime import datetime

from luthier.core.errors import Conflict, InvalidRequest, NotFound
from luthier.core.models import Resource
from luthier.core.states import TERMINAL_JOB_STATUSES
from luthier.service import files, keys, models
from luthier.service import jobs as job_service
from luthier.service import uploads as upload_service
from luthier.service.context import Context
from luthier.service.serving import Serving
from luthier.store import checkpoints, deployments, jobs, resources, uploads
from luthier.store import files as file_rows

logger = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}[A-Za-z0-9]")
_GROUP = re.compile(r"[\w.()-]{0,89}[\w()-]", re.ASCII)
_SUBSCRIPTION = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def create(context: Context, account: str, group: str | None, subscription: str | None) -> tuple[Resource, list[str]]:
    """Makes a resource with its key1 and key2, whose texts nobody can see again. Raises InvalidRequest, Conflict."""
    group = keys.DEFAULT_RESOURCE.resource_group if group is None else group
    subscription = keys.DEFAULT_RESOURCE.subscription if subscription is None else subscription
    _check(account, group, subscription)
    resource = Resource(f"resource-{context.new_hex()}", subscription, group, account)
    texts = [keys.new_key() for _ in keys.ACCOUNT_KEYS]
    with context.database.writing() as tx:
        if resources.find(tx, account, deleted=True) is not None:
            raise Conflict(
                "resource_name_taken",
                f"There is a resource {account} already, or one whose things are still being removed. Choose another "
                "name, or wait until the service has removed them.",
            )
        resources.insert_resource(tx, resource, context.now())
        for name, text in zip(keys.ACCOUNT_KEYS, texts, strict=True):
            resources.insert_key(tx, keys.hash_key(text), resource.id, name, context.now())
    logger.info("resource made id=%s", resource.id)
    return resource, texts


def get(context: Context, account: str) -> Resource:
    with context.database.reading() as tx:
        resource = resources.find(tx, account)
    if resource is None:
        raise NotFound("resource_not_found", f"There is no resource {account!r}. `luthier resources list` lists them.")
    return resource


def list_all(context: Context) -> list[tuple[Resource, datetime]]:
    """Every resource and when it was made, the oldest first."""
    with context.database.reading() as tx:
        return resources.list_all(tx)


def holdings(context: Context, resource_id: str) -> dict[str, int]:
    """What the resource holds, by the name of the table."""
    with context.database.reading() as tx:
        return resources.holdings(tx, resource_id)


def delete(context: Context, account: str, force: bool) -> bool:
    """Deletes a resource and its keys; False where what it held is still to be removed by the service.

    Raises Conflict for the default resource, and, unless `force`, for one that holds anything.
    """
    resource = get(context, account)
    if resource.id == keys.DEFAULT_RESOURCE.id:
        raise Conflict("default_resource", f"{account} is the default resource, which `luthier serve` needs. It stays.")
    with context.database.writing() as tx:
        held = resources.holdings(tx, resource.id)
        if held and not force:
            listed = ", ".join(f"{count} {name}" for name, count in held.items())
            raise Conflict(
                "resource_not_empty",
                f"{account} holds {listed}. Delete them first, or say --force: everything is removed then.",
            )
        resources.set_deleted(tx, resource.id, context.now())
        if not held:
            resources.remove(tx, resource.id)
    logger.info("resource deleted id=%s empty=%s", resource.id, not held)
    return not held


def purge_deleted(context: Context, serving: Serving) -> None:
    """Removes what deleted resources held, as soon as none of their jobs has a process: bytes first, rows at the end.

    Nobody has a key to them any more, so a crash in between leaves only what the next pass removes.
    """
    with context.database.reading() as tx:
        doomed = resources.list_deleted(tx)
    for resource in doomed:
        if _end_jobs(context, resource.id):
            _purge(context, serving, resource.id)


def _end_jobs(context: Context, resource_id: str) -> bool:
    """Cancels open jobs; True once the supervisor has cleared away the runs of all."""
    with context.database.reading() as tx:
        mine = [job for job in jobs.list_open(tx) if job.resource_id == resource_id]
    for job in mine:
        if job.status not in TERMINAL_JOB_STATUSES:
            job_service.cancel(context, resource_id, job.id)
    with context.database.reading() as tx:
        return not any(job.resource_id == resource_id for job in jobs.list_unreleased(tx))


def _purge(context: Context, serving: Serving, resource_id: str) -> None:
    with context.database.reading() as tx:
        mine = set(file_rows.list_ids(tx, resource_id))
        tuned = checkpoints.list_held(tx, resource_id)
        served = deployments.list_all(tx, resource_id)
        parts = uploads.parts_of_resource(tx, resource_id)
    for file_id in mine:
        files.delete_bytes(context, file_id)
    for part in parts:
        context.blobs.delete(upload_service.blob_key(part.upload_id, part.id))
    for checkpoint in tuned:
        serving.discard(checkpoint)
        models.delete_bytes(context, checkpoint)
    with context.database.writing() as tx:
        if set(file_rows.list_ids(tx, resource_id)) - mine or checkpoints.list_held(tx, resource_id) != tuned:
            return  # a request that was under way has added something: the next pass takes it along
        resources.remove(tx, resource_id)
    logger.info("resource purged id=%s files=%d deployments=%d", resource_id, len(mine), len(served))


def _check(account: str, group: str, subscription: str) -> None:
    if not _NAME.fullmatch(account):
        raise InvalidRequest(
            "invalid_resource_name",
            "A resource's name has 2 to 64 letters, digits, '-', '_' and '.', and begins and ends with a letter or "
            "digit.",
            "name",
        )
    if not _GROUP.fullmatch(group):
        raise InvalidRequest(
            "invalid_resource_group",
            "A resource group's name has 1 to 90 letters, digits, '-', '_', '.' and brackets, and ends with no '.'.",
            "group",
        )
    if not _SUBSCRIPTION.fullmatch(subscription):
        raise InvalidRequest(
            "invalid_subscription",
            "A subscription is a GUID such as 00000000-0000-0000-0000-000000000000.",
            "subscription",
        )
