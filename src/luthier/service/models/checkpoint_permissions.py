"""Permissions: a resource lets another one deploy and call its checkpoint."""

import logging

from luthier.core import ids
from luthier.core.errors import InvalidRequest, NotFound
from luthier.core.models import Checkpoint, CheckpointPermission
from luthier.service.context import Context
from luthier.service.models import models
from luthier.service.tenants.resources import ACCOUNT_NAME
from luthier.store.db import Connection
from luthier.store.queries import checkpoints, permissions, resources

logger = logging.getLogger(__name__)

MAX_PROJECTS = 100
MAX_PERMISSIONS = 1_000
"""Per checkpoint: names cost nothing to invent."""


def create(context: Context, resource_id: str, name: str, projects: list[str]) -> list[CheckpointPermission]:
    """Permits the resource of each name to use the checkpoint, all or none. Existing permissions are kept.

    Whether a resource of that name exists changes nothing in what is stored or answered: a tenant cannot learn who the
    others are. Raises NotFound for the checkpoint and InvalidRequest for the caller's own name, for an invalid name,
    and for too many.
    """
    if not 1 <= len(projects) <= MAX_PROJECTS:
        raise InvalidRequest("invalid_projects", f"project_ids names 1 to {MAX_PROJECTS} resources.", "project_ids")
    granted: list[CheckpointPermission] = []
    with context.database.writing() as tx:
        checkpoint = _own(tx, resource_id, name)
        own = resources.get(tx, resource_id)
        for project in dict.fromkeys(projects):
            if not ACCOUNT_NAME.fullmatch(project) or (own is not None and project.lower() == own.account.lower()):
                raise InvalidRequest(
                    "invalid_project",
                    f"{project!r} cannot be given a permission. A project id is the name of another resource here: 2 "
                    "to 64 letters, digits, '-', '_' and '.'; its owner knows it.",
                    "project_ids",
                )
            permission = permissions.of_account(tx, checkpoint.id, project)
            if permission is None:
                permission = CheckpointPermission(
                    ids.permission_id(context.new_hex()), checkpoint.id, project, context.now()
                )
                permissions.insert_permission(tx, permission)
            if permission not in granted:
                granted.append(permission)
        if permissions.count(tx, checkpoint.id) > MAX_PERMISSIONS:
            text = f"A checkpoint has at most {MAX_PERMISSIONS} permissions. Delete some first."
            raise InvalidRequest("too_many_permissions", text, "project_ids")
    logger.info("checkpoint shared id=%s resource=%s with=%d", checkpoint.id, resource_id, len(granted))
    return granted


def list_page(
    context: Context,
    resource_id: str,
    name: str,
    project: str | None,
    after: str | None,
    limit: int,
    ascending: bool,
) -> tuple[list[CheckpointPermission], bool]:
    """A page of the permissions of a checkpoint after the id `after`, only that of `project` if named, and whether more
    follow. Raises NotFound for the checkpoint, InvalidRequest for an `after` that is none of them.
    """
    with context.database.reading() as tx:
        checkpoint = _own(tx, resource_id, name)
        return permissions.list_page(tx, checkpoint.id, project, after, limit, ascending)


def delete(context: Context, resource_id: str, name: str, permission_id: str) -> None:
    """Deletes the permission; a deployment that depends on it stops answering. Raises NotFound for either."""
    with context.database.writing() as tx:
        checkpoint = _own(tx, resource_id, name)
        if not permissions.delete(tx, checkpoint.id, permission_id):
            raise NotFound("permission_not_found", f"There is no permission {permission_id!r} of {name}.")
    logger.info("checkpoint no longer shared id=%s permission=%s", checkpoint.id, permission_id)


def _own(tx: Connection, resource_id: str, name: str) -> Checkpoint:
    """The resource's own checkpoint, by model name or id. Raises NotFound, also for a copy or a shared one."""
    checkpoint = checkpoints.find(tx, resource_id, name)
    if checkpoint is None or checkpoint.resource_id != resource_id or checkpoint.copied_from is not None:
        raise models.not_found(name)
    return checkpoint
