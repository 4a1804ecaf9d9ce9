"""Resources, the tenants: created, listed, deleted."""

import logging
import re
from datetime import datetime

from luthier.core.errors import Conflict, InvalidRequest, NotFound
from luthier.core.models import Resource, ResourceName
from luthier.service.context import Context
from luthier.service.tenants import keys
from luthier.store.queries import resources

logger = logging.getLogger(__name__)

ACCOUNT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}[A-Za-z0-9]")
_GROUP = re.compile(r"[\w.()-]{0,89}[\w()-]", re.ASCII)
_SUBSCRIPTION = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


def create(context: Context, account: str, group: str | None, subscription: str | None) -> tuple[Resource, list[str]]:
    """Creates a resource; returns it with the texts of key1 and key2, which cannot be shown again.

    None is the default resource's group or subscription. Raises InvalidRequest, and Conflict for a taken name.
    """
    group = keys.DEFAULT_RESOURCE.resource_group if group is None else group
    subscription = keys.DEFAULT_RESOURCE.subscription if subscription is None else subscription
    _check(account, group, subscription)
    resource = Resource(f"resource-{context.new_hex()}", subscription, group, account)
    texts = [keys.new_key() for _ in keys.ACCOUNT_KEYS]
    with context.database.writing() as tx:
        if resources.find(tx, account, deleted=True) is not None:
            raise Conflict(
                "resource_name_taken",
                f"There already is a resource {account}, or one that is still being deleted. Choose another name, or "
                "wait until the service has deleted it.",
            )
        resources.insert_resource(tx, resource, context.now())
        for name, text in zip(keys.ACCOUNT_KEYS, texts, strict=True):
            resources.insert_key(tx, keys.hash_key(text), resource.id, name, context.now())
    logger.info("resource created id=%s", resource.id)
    return resource, texts


def get(context: Context, account: str) -> Resource:
    """The resource of an account's name, without regard to case. Raises NotFound."""
    with context.database.reading() as tx:
        resource = resources.find(tx, account)
    if resource is None:
        raise NotFound("resource_not_found", f"There is no resource {account!r}. `luthier resources list` lists them.")
    return resource


def list_all(context: Context) -> list[tuple[Resource, datetime]]:
    """Every resource with its creation time, oldest first."""
    with context.database.reading() as tx:
        return resources.list_all(tx)


def created_at(context: Context, resource_id: str) -> datetime:
    """When the resource was created."""
    with context.database.reading() as tx:
        return resources.created_at(tx, resource_id)


def count_contents(context: Context, resource_id: str) -> dict[str, int]:
    """How many rows the resource has, by table; tables without any are left out."""
    with context.database.reading() as tx:
        return resources.count_contents(tx, resource_id)


def delete(context: Context, account: str, force: bool) -> bool:
    """Deletes a resource and its keys; False if the service still has to remove what it contains.

    Raises NotFound, and Conflict for the default resource and, unless `force`, for one that is not empty.
    """
    resource = get(context, account)
    if resource.id == keys.DEFAULT_RESOURCE.id:
        raise Conflict("default_resource", f"{account} is the default resource, which `luthier serve` needs. It stays.")
    with context.database.writing() as tx:
        contents = resources.count_contents(tx, resource.id)
        if contents and not force:
            listed = ", ".join(f"{count} {name}" for name, count in contents.items())
            raise Conflict(
                "resource_not_empty",
                f"{account} has {listed}. Delete them first, or use --force, which removes everything.",
            )
        resources.set_deleted(tx, resource.id, context.now())
        if not contents:
            resources.remove(tx, resource.id)
    logger.info("resource deleted id=%s empty=%s", resource.id, not contents)
    return not contents


def is_valid_name(name: ResourceName) -> bool:
    """Whether the name is well-formed; not whether a resource of that name exists."""
    patterns = (_SUBSCRIPTION, name.subscription), (_GROUP, name.resource_group), (ACCOUNT_NAME, name.account)
    return all(pattern.fullmatch(part) for pattern, part in patterns)


def _check(account: str, group: str, subscription: str) -> None:
    """Raises InvalidRequest for a malformed name of a resource, resource group or subscription."""
    if not ACCOUNT_NAME.fullmatch(account):
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
