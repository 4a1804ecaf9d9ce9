"""Webhook endpoints as each dialect sends them: what differs is the path, and the word in `object`."""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from msgspec import UNSET, Meta, Struct, UnsetType

from luthier.api.dialects.answer import Deleted, Unix, unix, unix_or_none
from luthier.core.webhooks.webhook_events import WebhookEndpoint, WebhookEventType


class WebhookAnswer(Struct, kw_only=True):
    """Where a resource wants which events. Only the answers to creation and rotation have the `signing_secret`."""

    id: str
    created_at: Unix
    updated_at: Unix
    name: str
    url: str
    event_types: list[WebhookEventType]
    signing_secret_hint: str
    signing_secret: str | UnsetType = UNSET
    disabled_at: Annotated[
        Unix | None, Meta(description="When it answered 410; an update enables it again. An extension of this service.")
    ]

    @classmethod
    def from_endpoint(cls, endpoint: WebhookEndpoint, secret: str | None = None) -> Self:
        """The endpoint; with its secret if that is new."""
        return cls(
            id=endpoint.id,
            created_at=unix(endpoint.created_at),
            updated_at=unix(endpoint.updated_at),
            name=endpoint.name,
            url=endpoint.url,
            event_types=list(endpoint.event_types),
            signing_secret_hint=endpoint.secret_hint,
            signing_secret=UNSET if secret is None else secret,
            disabled_at=unix_or_none(endpoint.disabled_at),
        )


class OpenAIWebhook(WebhookAnswer, kw_only=True):
    """Where a resource wants which events. Only the answers to creation and rotation have the `signing_secret`."""

    object: Literal["webhook_endpoint"] = "webhook_endpoint"


class AzureWebhook(WebhookAnswer, kw_only=True):
    """Where a resource wants which events. Only the answers to creation and rotation have the `signing_secret`."""

    object: Literal["webhook.endpoint"] = "webhook.endpoint"


class WebhookTestAnswer(Struct, kw_only=True):
    """What an endpoint answered to a sample event."""

    object: str
    webhook_endpoint_id: str
    event_type: str
    status_code: Annotated[int, Meta(description="The HTTP status of the endpoint's answer.")]
    success: Literal[True] = True


class WebhookEventTypes(Struct, kw_only=True):
    """The event types that are sent here."""

    object: Literal["list"] = "list"
    data: list[WebhookEventType]


@dataclass(frozen=True, slots=True)
class WebhookWire:
    """One spelling of webhooks: what stands before `/webhook_endpoints`, and the answers' types."""

    prefix: str
    endpoint: type[OpenAIWebhook] | type[AzureWebhook]
    deleted: type[Deleted[Literal["webhook_endpoint.deleted"]]] | type[Deleted[Literal["webhook.endpoint.deleted"]]]
    word: str
    """Of `object`, to which `.deleted` and `.test` are added."""


SDK_WEBHOOKS = WebhookWire("", OpenAIWebhook, Deleted[Literal["webhook_endpoint.deleted"]], "webhook_endpoint")
"""As the SDK has it, whichever dialect its base URL names."""
AZURE_WEBHOOKS = WebhookWire(
    "/dashboard", AzureWebhook, Deleted[Literal["webhook.endpoint.deleted"]], "webhook.endpoint"
)
"""As Azure's page has it (wire-contract.md section 25)."""
