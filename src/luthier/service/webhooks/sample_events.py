"""Sample events: one attempt at one endpoint while its owner waits, for a test of the receiver."""

import threading
from dataclasses import dataclass, field

from luthier.core.errors import InvalidRequest, RateLimited
from luthier.core.webhooks import webhook_events
from luthier.core.webhooks.webhook_events import Delivery, WebhookEventType
from luthier.service.context import Context
from luthier.service.webhooks import deliveries, webhook_endpoints
from luthier.store.queries.webhooks.outbox import Due

_SUBJECTS = {"fine_tuning": "ftjob-", "batch": "batch_", "response": "resp_"}


@dataclass(slots=True)
class SampleSender:
    """Sends sample events, one at a time for each resource: a slow receiver occupies a thread of the service."""

    _busy: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, context: Context, resource_id: str, endpoint_id: str, event_type: str) -> int:
        """Posts an event of a made-up object to the endpoint, signed like any other; the status of the answer.

        It is tried once and stored nowhere. Raises NotFound, InvalidRequest for an event that is not sent here and for
        an endpoint that gives no answer, RateLimited while the resource has another sample under way.
        """
        endpoint = webhook_endpoints.get(context, resource_id, endpoint_id)
        [type] = webhook_endpoints.known_types([event_type], "event_type")
        with self._lock:
            if resource_id in self._busy:
                text = "Another sample event of this resource is on its way. Wait for its answer."
                raise RateLimited("webhook_test_running", text, deliveries.MAX_SECONDS)
            self._busy.add(resource_id)
        try:
            outcome = deliveries.attempt(context, Due(_sample(context, type), endpoint))
        finally:
            with self._lock:
                self._busy.discard(resource_id)
        if outcome.status is None:
            reason = _REASONS.get(str(outcome.error), "the connection failed")
            raise InvalidRequest(str(outcome.error), f"The endpoint gave no answer: {reason}.")
        return outcome.status


_REASONS = {
    "url_too_slow": f"it took more than {deliveries.MAX_SECONDS:.0f} s",
    "url_not_allowed": "its name does not resolve to public addresses alone. The operator can allow a private host or "
    "network by LUTHIER_IMPORT_ALLOW",
    "url_not_trusted": "its certificate is not valid for it",
    "webhook_secret_unreadable": "its signing secret cannot be opened. Rotate it",
}


def _sample(context: Context, type: WebhookEventType) -> Delivery:
    """An event about an object that does not exist: its id is all zeros."""
    now = context.now()
    event_id = f"evt_{context.new_hex()}"
    subject_id = _SUBJECTS[type.partition(".")[0]] + "0" * 32
    body = webhook_events.event_body(event_id, type, subject_id, now)
    return Delivery(f"wh_{context.new_hex()}", type, body)
