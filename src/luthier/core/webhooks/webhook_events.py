"""Webhook endpoints, the events that are sent to them, and a delivery: one event on its way to one endpoint."""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from luthier.core.inference.stored_responses import ResponseStatus
from luthier.core.states import BatchStatus, JobStatus

MAX_ENDPOINTS = 50
"""Of one resource."""
MAX_NAME_CHARACTERS = 256
MAX_URL_CHARACTERS = 2048


class WebhookEventType(StrEnum):
    """The events that are sent, in the vendors' spelling; they have more of them."""

    # wire-contract.md section 25

    JOB_SUCCEEDED = "fine_tuning.job.succeeded"
    JOB_FAILED = "fine_tuning.job.failed"
    JOB_CANCELLED = "fine_tuning.job.cancelled"
    BATCH_COMPLETED = "batch.completed"
    BATCH_FAILED = "batch.failed"
    BATCH_EXPIRED = "batch.expired"
    BATCH_CANCELLED = "batch.cancelled"
    RESPONSE_COMPLETED = "response.completed"
    RESPONSE_FAILED = "response.failed"
    RESPONSE_CANCELLED = "response.cancelled"
    RESPONSE_INCOMPLETE = "response.incomplete"


JOB_EVENTS = {
    JobStatus.SUCCEEDED: WebhookEventType.JOB_SUCCEEDED,
    JobStatus.FAILED: WebhookEventType.JOB_FAILED,
    JobStatus.CANCELLED: WebhookEventType.JOB_CANCELLED,
}
BATCH_EVENTS = {
    BatchStatus.COMPLETED: WebhookEventType.BATCH_COMPLETED,
    BatchStatus.FAILED: WebhookEventType.BATCH_FAILED,
    BatchStatus.EXPIRED: WebhookEventType.BATCH_EXPIRED,
    BatchStatus.CANCELLED: WebhookEventType.BATCH_CANCELLED,
}
RESPONSE_EVENTS = {
    ResponseStatus.COMPLETED: WebhookEventType.RESPONSE_COMPLETED,
    ResponseStatus.FAILED: WebhookEventType.RESPONSE_FAILED,
    ResponseStatus.CANCELLED: WebhookEventType.RESPONSE_CANCELLED,
    ResponseStatus.INCOMPLETE: WebhookEventType.RESPONSE_INCOMPLETE,
}
"""By the status that the event is of; only responses in the background have any."""


class DeliveryState(StrEnum):
    """How far a delivery has come; an attempt under way is no state: a kill leaves the delivery pending."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """Where a resource wants which events. `secret` is sealed text that only the service can open.

    `previous_secret` signs too until `previous_until`. `disabled_at` is when the endpoint said that it is gone (410).
    """

    id: str
    resource_id: str
    created_at: datetime
    updated_at: datetime
    name: str
    url: str
    event_types: tuple[WebhookEventType, ...]
    secret: str
    secret_hint: str
    previous_secret: str | None = None
    previous_until: datetime | None = None
    disabled_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one endpoint. `id` is the header webhook-id, the same at every attempt; `body` is sent as it is.

    `first_attempt_at` is None before the first attempt: the time to give up is counted from it, not from the event,
    which may be older than a service that was down.
    """

    id: str
    type: str
    body: str
    attempts: int = 0
    first_attempt_at: datetime | None = None


def event_id(type: WebhookEventType, subject_id: str, at: datetime) -> str:
    """The id of the event that a job, batch or response has come to its last status `at` a time.

    The same input gives the same id, so that one change of a status can be no two events.
    """
    return f"evt_{_hex32(f'{type} {subject_id} {at.timestamp():.6f}')}"


def delivery_id(event_id: str, endpoint_id: str) -> str:
    """The id of the event's delivery to an endpoint: each endpoint has its own."""
    return f"wh_{_hex32(f'{event_id} {endpoint_id}')}"


def event_body(event_id: str, type: WebhookEventType, subject_id: str, at: datetime) -> str:
    """The event as JSON: what happened to which object; the receiver asks the API for the object itself."""
    created_at = int(at.timestamp())
    event = {"object": "event", "id": event_id, "type": type, "created_at": created_at, "data": {"id": subject_id}}
    return json.dumps(event, separators=(",", ":"))


def _hex32(text: str) -> str:
    """32 hex digits of a hash."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]
