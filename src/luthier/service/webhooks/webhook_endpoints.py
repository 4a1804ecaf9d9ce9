"""Use cases of webhook endpoints: create, get, list, update, rotate the secret, delete."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from luthier.core import ids
from luthier.core.errors import InvalidRequest, LuthierError, NotFound, QuotaExceeded
from luthier.core.webhooks import signatures
from luthier.core.webhooks.webhook_events import MAX_ENDPOINTS, WebhookEndpoint, WebhookEventType
from luthier.service.context import Context
from luthier.service.webhooks import signing_secrets
from luthier.store.db import Connection
from luthier.store.queries.webhooks import webhook_endpoints

logger = logging.getLogger(__name__)

OVERLAP = timedelta(hours=24)
"""How long a rotated secret still signs, if its owner wants that."""
_LOOKUP_S = 5.0
_TYPES = {str(type): type for type in WebhookEventType}


@dataclass(frozen=True, slots=True)
class Change:
    """What an update sets; None leaves what there is."""

    name: str | None = None
    url: str | None = None
    event_types: Sequence[str] | None = None


def create(
    context: Context, resource_id: str, name: str, url: str, event_types: Sequence[str]
) -> tuple[WebhookEndpoint, str]:
    """Creates an endpoint and its signing secret, whose text is given out here alone. Looks the URL's name up.

    Raises InvalidRequest for the URL and for unknown event types, Unavailable for a name that takes long to look up,
    QuotaExceeded, and NoSpace.
    """
    types = known_types(event_types, "event_types")
    _check_url(context, url)
    endpoint_id, secret, now = ids.webhook_endpoint_id(context.new_hex()), signing_secrets.new_secret(), context.now()
    endpoint = WebhookEndpoint(
        id=endpoint_id,
        resource_id=resource_id,
        created_at=now,
        updated_at=now,
        name=name,
        url=url,
        event_types=types,
        secret=signing_secrets.seal(context, endpoint_id, secret),
        secret_hint=signatures.secret_hint(secret),
    )
    with context.database.writing() as tx:
        if webhook_endpoints.count(tx, resource_id) >= MAX_ENDPOINTS:
            text = f"This resource has {MAX_ENDPOINTS} webhook endpoints, the most that it may. Delete one first."
            raise QuotaExceeded("webhook_endpoints_quota_exceeded", text)
        webhook_endpoints.insert_endpoint(tx, endpoint)
    logger.info("webhook endpoint created id=%s resource=%s", endpoint.id, resource_id)
    return endpoint, signatures.secret_text(secret)


def get(context: Context, resource_id: str, endpoint_id: str) -> WebhookEndpoint:
    """The resource's endpoint. Raises NotFound, for another resource's as well."""
    with context.database.reading() as tx:
        return _require(tx, resource_id, endpoint_id)


def list_page(context: Context, resource_id: str, after: str | None, limit: int) -> tuple[list[WebhookEndpoint], bool]:
    """A page of the resource's endpoints, newest first, and whether more follow. Raises InvalidRequest for `after`."""
    with context.database.reading() as tx:
        return webhook_endpoints.list_page(tx, resource_id, after, limit)


def update(context: Context, resource_id: str, endpoint_id: str, change: Change) -> WebhookEndpoint:
    """Changes an endpoint, and enables one again that was disabled. What is on its way goes to the new URL.

    Raises NotFound, and as `create` for what is wrong with the change.
    """
    get(context, resource_id, endpoint_id)  # whoever does not have it learns nothing about a URL
    types = None if change.event_types is None else known_types(change.event_types, "event_types")
    if change.url is not None:
        _check_url(context, change.url)
    with context.database.writing() as tx:
        endpoint = _require(tx, resource_id, endpoint_id)
        changed = replace(
            endpoint,
            name=endpoint.name if change.name is None else change.name,
            url=endpoint.url if change.url is None else change.url,
            event_types=endpoint.event_types if types is None else types,
            disabled_at=None,
        )
        if changed != endpoint:
            changed = replace(changed, updated_at=context.now())
            webhook_endpoints.replace_endpoint(tx, changed)
    logger.info("webhook endpoint updated id=%s", endpoint_id)
    return changed


def rotate(context: Context, resource_id: str, endpoint_id: str, keep_old: bool) -> tuple[WebhookEndpoint, str]:
    """Gives an endpoint a new secret, and its text; the old one signs too for OVERLAP if it is to be kept.

    Raises NotFound and NoSpace.
    """
    secret = signing_secrets.new_secret()
    get(context, resource_id, endpoint_id)
    sealed = signing_secrets.seal(context, endpoint_id, secret)
    with context.database.writing() as tx:
        endpoint, now = _require(tx, resource_id, endpoint_id), context.now()
        rotated = replace(
            endpoint,
            secret=sealed,
            secret_hint=signatures.secret_hint(secret),
            previous_secret=endpoint.secret if keep_old else None,
            previous_until=now + OVERLAP if keep_old else None,
            updated_at=now,
        )
        webhook_endpoints.replace_endpoint(tx, rotated)
    logger.info("webhook secret rotated id=%s overlap=%s", endpoint_id, keep_old)
    return rotated, signatures.secret_text(secret)


def delete(context: Context, resource_id: str, endpoint_id: str) -> None:
    """Deletes an endpoint with what is on its way to it. Raises NotFound."""
    with context.database.writing() as tx:
        if not webhook_endpoints.delete(tx, resource_id, endpoint_id):
            raise _not_found(endpoint_id)
    logger.info("webhook endpoint deleted id=%s", endpoint_id)


def known_types(event_types: Sequence[str], param: str) -> tuple[WebhookEventType, ...]:
    """The event types, each once. Raises InvalidRequest for none, and for one that is not sent here."""
    known = ", ".join(WebhookEventType)
    if not event_types:
        raise InvalidRequest("invalid_event_types", f"{param} names at least one of: {known}.", param)
    for type in event_types:
        if type not in _TYPES:
            raise InvalidRequest("unknown_event_type", f"{param}: {type[:64]!r} is not sent here. Use {known}.", param)
    return tuple(dict.fromkeys(_TYPES[type] for type in event_types))


def _require(tx: Connection, resource_id: str, endpoint_id: str) -> WebhookEndpoint:
    """The endpoint, if it is the resource's. Raises NotFound."""
    endpoint = webhook_endpoints.get(tx, resource_id, endpoint_id)
    if endpoint is None:
        raise _not_found(endpoint_id)
    return endpoint


def _not_found(endpoint_id: str) -> NotFound:
    text = f"There is no webhook endpoint {endpoint_id!r} here. GET .../webhook_endpoints lists those of this resource."
    return NotFound("webhook_endpoint_not_found", text)


def _check_url(context: Context, url: str) -> None:
    """Raises InvalidRequest for a URL that nothing may be posted to, Unavailable for a lookup that takes too long."""
    try:
        context.fetcher.check_host(url, _LOOKUP_S)
    except LuthierError as error:
        raise type(error)(error.code, error.message, "url") from error
