"""/webhook_endpoints: create, get, list, update, rotate the secret, send a sample, delete; /webhook_event_types."""

from functools import partial
from typing import Annotated

from fastapi import Depends, Query
from fastapi.responses import Response

from luthier.api.auth import authentication
from luthier.api.dialects import answer
from luthier.api.dialects.answer import Deleted
from luthier.api.dialects.dialects import Dialect
from luthier.api.dialects.webhook_answers import WebhookEventTypes, WebhookTestAnswer, WebhookWire
from luthier.api.http import thread_pools
from luthier.api.http.thread_pools import Workers
from luthier.api.requests.webhook_bodies import RotationBody, SampleBody, WebhookBody, WebhookChangeBody
from luthier.api.routing.json_response import JsonResponse
from luthier.api.routing.operation import PageOf, json_reply
from luthier.api.routing.router import Router
from luthier.api.services import Services
from luthier.core.models import Principal
from luthier.core.roles import Action
from luthier.core.webhooks.webhook_events import WebhookEventType
from luthier.service.webhooks import webhook_endpoints
from luthier.service.webhooks.webhook_endpoints import Change

_EXAMPLE = {
    "name": "jobs",
    "url": "https://receiver.example/webhook",
    "event_types": ["fine_tuning.job.succeeded", "fine_tuning.job.failed"],
}
_PLAIN_ROTATION = RotationBody()
"""Without a body. Not None: errors are worded by the body's type, and a union has no fields."""


def add_routes(router: Router, dialect: Dialect, services: Services) -> None:
    """Adds the dialect's routes of webhooks, in each of its spellings."""
    for wire in dialect.webhooks:
        _add_endpoints(router, wire, services)
        _add_changes(router, wire, services)
        _add_samples(router, wire, services)


def _add_endpoints(router: Router, wire: WebhookWire, services: Services) -> None:
    """Adds what reads endpoints, and their deletion."""
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]
    path = f"{wire.prefix}/webhook_endpoints"

    @router.get(path, Action.WEBHOOKS_READ, "List webhook endpoints, newest first", json_reply(PageOf(wire.endpoint)))
    def list_webhooks(
        caller: Caller, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
    ) -> object:
        """`after` is the last id of the page before."""
        page, has_more = webhook_endpoints.list_page(context, caller.resource.id, after, limit)
        return answer.page([wire.endpoint.from_endpoint(endpoint) for endpoint in page], has_more)

    one = path + "/{webhook_id}"

    @router.get(one, Action.WEBHOOKS_READ, "Get a webhook endpoint", json_reply(wire.endpoint))
    def get_webhook(webhook_id: str, caller: Caller) -> object:
        return wire.endpoint.from_endpoint(webhook_endpoints.get(context, caller.resource.id, webhook_id))

    @router.delete(one, Action.WEBHOOKS_WRITE, "Delete a webhook endpoint", json_reply(wire.deleted))
    def delete_webhook(webhook_id: str, caller: Caller) -> object:
        """What is on its way to it is not sent any more."""
        webhook_endpoints.delete(context, caller.resource.id, webhook_id)
        return Deleted(id=webhook_id, object=f"{wire.word}.deleted")


def _add_changes(router: Router, wire: WebhookWire, services: Services) -> None:
    """Adds creation, update and rotation. The first two wait for the look-up of a name, so not among the writers."""
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]
    path, reply = f"{wire.prefix}/webhook_endpoints", json_reply(wire.endpoint)

    @router.post(path, Action.WEBHOOKS_WRITE, "Create a webhook endpoint", reply, errors=(429, 503), example=_EXAMPLE)
    async def create_webhook(body: WebhookBody, caller: Caller) -> Response:
        """The answer has the signing secret, which is not shown again.

        The URL is https, and its name resolves to public addresses alone, now and at each delivery.
        """
        create = partial(webhook_endpoints.create, context, caller.resource.id, body.name, body.url, body.event_types)
        return JsonResponse(wire.endpoint.from_endpoint(*await thread_pools.run(Workers.RECEIVERS, create)))

    one = path + "/{webhook_id}"

    @router.post(one, Action.WEBHOOKS_WRITE, "Update a webhook endpoint", reply, errors=(503,))
    async def update_webhook(webhook_id: str, body: WebhookChangeBody, caller: Caller) -> Response:
        """What is left out stays. What is on its way goes to the new URL; an endpoint that was disabled is enabled."""
        change = Change(body.name, body.url, body.event_types)
        update = partial(webhook_endpoints.update, context, caller.resource.id, webhook_id, change)
        return JsonResponse(wire.endpoint.from_endpoint(await thread_pools.run(Workers.RECEIVERS, update)))

    @router.post(
        f"{one}/rotate_secret", Action.WEBHOOKS_WRITE, "Rotate a webhook's signing secret", reply, errors=(503,)
    )
    def rotate_secret(webhook_id: str, caller: Caller, body: RotationBody = _PLAIN_ROTATION) -> object:
        """The answer has the new secret. The old one is invalid at once, or signs beside the new one for 24 hours."""
        keep_old = body.keep_old_secret_active_for_24_hours
        rotated = webhook_endpoints.rotate(context, caller.resource.id, webhook_id, keep_old)
        return wire.endpoint.from_endpoint(*rotated)


def _add_samples(router: Router, wire: WebhookWire, services: Services) -> None:
    """Adds the sending of a sample event, and the list of event types."""
    context = services.context
    Caller = Annotated[Principal, Depends(authentication.require_key(context))]

    @router.post(
        f"{wire.prefix}/webhook_endpoints/{{webhook_id}}/test",
        Action.WEBHOOKS_WRITE,
        "Send a sample event",
        json_reply(WebhookTestAnswer),
    )
    async def test_webhook(webhook_id: str, body: SampleBody, caller: Caller) -> Response:
        """One attempt, signed as any other; its object does not exist. 400 if nothing answers within ten seconds."""
        send = partial(services.samples.send, context, caller.resource.id, webhook_id, body.event_type)
        status = await thread_pools.run(Workers.RECEIVERS, send)
        return JsonResponse(
            WebhookTestAnswer(
                object=f"{wire.word}.test",
                webhook_endpoint_id=webhook_id,
                event_type=body.event_type,
                status_code=status,
            )
        )

    @router.get(
        f"{wire.prefix}/webhook_event_types",
        Action.WEBHOOKS_READ,
        "List the event types that are sent",
        json_reply(WebhookEventTypes),
    )
    def list_event_types(caller: Caller) -> object:
        """The vendors have more; those are of things that do not exist here."""
        return WebhookEventTypes(data=list(WebhookEventType))
