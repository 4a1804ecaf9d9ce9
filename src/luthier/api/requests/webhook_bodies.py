"""Bodies of requests on webhook endpoints; an unknown field is an error."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from luthier.api.requests.field_types import Text
from luthier.core.webhooks.webhook_events import MAX_NAME_CHARACTERS, MAX_URL_CHARACTERS, WebhookEventType

Name = Annotated[Text, Field(min_length=1, max_length=MAX_NAME_CHARACTERS)]
Url = Annotated[Text, Field(min_length=1, max_length=MAX_URL_CHARACTERS)]
_EVENT_TYPE = {"type": "string", "enum": list(WebhookEventType)}
EventTypes = Annotated[list[str], Field(max_length=100, json_schema_extra={"minItems": 1, "items": _EVENT_TYPE})]
"""Which of them are sent is checked by the service, whose error lists all."""


class _Body(BaseModel):
    """A JSON object in which an unknown field is an error."""

    model_config = ConfigDict(extra="forbid")


class WebhookBody(_Body):
    """POST /webhook_endpoints: where to send which events."""

    name: Name
    url: Url
    event_types: EventTypes


class WebhookChangeBody(_Body):
    """POST /webhook_endpoints/{id}: what is given replaces what there is."""

    name: Name | None = None
    url: Url | None = None
    event_types: EventTypes | None = None


class RotationBody(_Body):
    """POST /webhook_endpoints/{id}/rotate_secret."""

    keep_old_secret_active_for_24_hours: bool = False


class SampleBody(_Body):
    """POST /webhook_endpoints/{id}/test: of which event a sample is sent."""

    event_type: Annotated[str, Field(json_schema_extra=_EVENT_TYPE)]
