"""Permissions: one resource lets another deploy and call a checkpoint of its own."""

import logging

from luthier.core import ids
from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.models import Checkpoint, CheckpointPermission
from luthier.service import models
from luthier.service.context import Context
from luthier.store import checkpoints, permissions, resources
from luthier.store.db import Connection

logger = logging.getLogger(__name__)

MAX_PROJECTS = 100


def create(context: Context, resource_id: str, name: str, projects: list[str]) -> list[CheckpointPermission]:
    """Lets each of the resources use the checkpoint, all or none. One that may already keeps its permission.

    Raises NotFound for the checkpoint and InvalidRequest for a name that is no other resource's.
    """
    if not 1 <= len(projects) <= MAX_PROJECTS:
        raise InvalidRequest("invalid_projects", f"project_ids names 1 to {MAX_PROJECTS} resources.", "project_ids")
    made = []
    with context.database.writing() as tx:
        checkpoint = _own(tx, resource_id, name)
        for project in dict.fromkeys(projects):
            resource = resources.find(tx, project)
            if resource is None or resource.id == resource_id:
                raise InvalidRequest(
                    "project_not_found",
                    f"{project!r} is no other resource of this installation. A project id is the name of a resource "
                    "here; `luthier serve` and the resource's owner know it.",
                    "project_ids",
                )
            permission = permissions.of_resource(tx, checkpoint.id, resource.id)
            if permission is None:
                permission = CheckpointPermission(
                    ids.permission_id(context.new_hex()), checkpoint.id, resource, context.now()
                )
                permissions.insert_permission(tx, permission)
            made.append(permission)
    logger.info("checkpoint shared id=%s resource=%s with=%d", checkpoint.id, resource_id, len(made))
    return made


def list_page(
    context: Context,
    resource_id: str,
    name: str,
    project: str | None,
    after: str | None,
    limit: int,
    ascending: bool,
) -> tuple[list[CheckpointPermission], bool]:
    with context.database.reading() as tx:
        checkpoint = _own(tx, resource_id, name)
        return permissions.list_page(tx, checkpoint.id, project, after, limit, ascending)


def delete(context: Context, resource_id: str, name: str, permission_id: str) -> None:
    """Ends the permission; a deployment that lived by it answers no more calls."""
    with context.database.writing() as tx:
        checkpoint = _own(tx, resource_id, name)
        if not permissions.delete(tx, checkpoint.id, permission_id):
            raise NotFound("permission_not_found", f"There is no permission {permission_id!r} of {name}.")
    logger.info("checkpoint no longer shared id=%s permission=%s", checkpoint.id, permission_id)


def _own(tx: Connection, resource_id: str, name: str) -> Checkpoint:
    checkpoint = checkpoints.find(tx, resource_id, name)
    if checkpoint is None or checkpoint.resource_id != resource_id or checkpoint.copied_from is not None:
        raise models.not_found(name)
    return checkpoint
