"""One attempt at a delivery: signed, posted outside of any transaction, and what came of it recorded."""

import logging
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from luthier.core.errors import LuthierError, Unavailable
from luthier.core.webhooks import retry_schedule, signatures
from luthier.core.webhooks.webhook_events import Delivery, WebhookEndpoint
from luthier.service.context import Context
from luthier.service.webhooks import signing_secrets
from luthier.store.queries.webhooks import outbox, webhook_endpoints
from luthier.store.queries.webhooks.outbox import Due

logger = logging.getLogger(__name__)

MAX_SECONDS = 10.0
"""For one POST, from the look-up of the name to the status: as Azure."""
GONE = 410
KEPT_FOR = timedelta(days=7)
"""How long the record of an ended delivery is kept."""
_THROTTLES = frozenset({429, 502, 503, 504})
"""Statuses whose Retry-After holds for all deliveries to the endpoint (Standard Webhooks)."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt that began `at` a time came to: a status, or the code of the error in its place."""

    due: Due
    at: datetime
    status: int | None = None
    error: str | None = None
    retry_after_s: float = 0.0

    @property
    def is_delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def attempt(context: Context, due: Due) -> Outcome:
    """Posts a delivery. Raises nothing that a receiver, a URL or a key's file can cause."""
    at = context.now()
    try:
        headers = signed_headers(context, due.endpoint, due.delivery, at)
        answer = context.fetcher.post(due.endpoint.url, due.delivery.body.encode(), headers, MAX_SECONDS)
    except LuthierError as error:
        return Outcome(due, at, error=error.code)
    return Outcome(due, at, answer.status, retry_after_s=answer.retry_after_s if answer.status in _THROTTLES else 0.0)


def signed_headers(context: Context, endpoint: WebhookEndpoint, delivery: Delivery, at: datetime) -> dict[str, str]:
    """The headers of an attempt, signed for its own time. Raises Unavailable if the secret cannot be opened."""
    secrets = [signing_secrets.unseal(context, endpoint.id, endpoint.secret)]
    if endpoint.previous_secret and endpoint.previous_until and at < endpoint.previous_until:
        with suppress(Unavailable):  # it was sealed by a key that is gone: the new one signs
            secrets.append(signing_secrets.unseal(context, endpoint.id, endpoint.previous_secret))
    timestamp = int(at.timestamp())
    return {
        "Content-Type": "application/json",
        "webhook-id": delivery.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signatures.signature(secrets, delivery.id, timestamp, delivery.body),
    }


def record(context: Context, outcome: Outcome, chance: float) -> None:
    """Writes what an attempt came to: delivered, when the next one is due, or given up; 410 disables the endpoint.

    Nothing is written of a delivery that is gone, with its endpoint. `chance`, from 0 to 1, is the jitter. Raises
    NoSpace and Unavailable: the caller must record it later, and post nothing again before.
    """
    delivery, endpoint, now = outcome.due.delivery, outcome.due.endpoint, context.now()
    first = delivery.first_attempt_at or outcome.at
    next_at = None
    with context.database.writing() as tx:
        if outcome.is_delivered:
            assert outcome.status is not None
            exists = outbox.set_delivered(tx, delivery.id, outcome.status, first, now)
        else:
            if outcome.status != GONE:
                settled, attempts = context.deletion_time(), delivery.attempts + 1
                next_at = retry_schedule.next_attempt(first, now, settled, attempts, chance, outcome.retry_after_s)
            exists = outbox.set_retry(tx, delivery.id, outcome.status, first, now, next_at)
            if exists and outcome.status == GONE:
                webhook_endpoints.disable(tx, endpoint.id, now)
                outbox.fail_all(tx, endpoint.id, now)
            elif next_at is not None and outcome.retry_after_s:
                outbox.postpone(tx, endpoint.id, next_at)
    if exists:
        _log(outcome, next_at)


def remove_old(context: Context) -> None:
    """Deletes the records of deliveries that ended long ago."""
    before = context.deletion_time() - KEPT_FOR
    with context.database.reading() as tx:
        if not outbox.has_ended_before(tx, before):
            return
    with context.database.writing() as tx:
        removed = outbox.delete_ended_before(tx, before)
    logger.info("webhook deliveries removed count=%d", removed)


def _log(outcome: Outcome, next_at: datetime | None) -> None:
    """One line without URL and body."""
    delivery, endpoint = outcome.due.delivery, outcome.due.endpoint
    answered = f"status={outcome.status}" if outcome.error is None else f"code={outcome.error}"
    line = f"id={delivery.id} type={delivery.type} endpoint={endpoint.id} attempt={delivery.attempts + 1} {answered}"
    if outcome.is_delivered:
        logger.info("webhook delivered %s", line)
    elif next_at is not None:
        logger.info("webhook not delivered %s again_at=%s", line, next_at.isoformat(timespec="seconds"))
    elif outcome.status == GONE:
        logger.warning("webhook endpoint disabled %s", line)
    else:
        logger.warning("webhook given up %s", line)
