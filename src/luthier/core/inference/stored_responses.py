"""A stored response: what a caller asked and what a model answered, kept so that a conversation can continue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

Json = Mapping[str, Any]


class ResponseStatus(StrEnum):
    """How far a response has come; the first two are those that an answer is still expected of."""

    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN_STATUSES = frozenset({ResponseStatus.QUEUED, ResponseStatus.IN_PROGRESS})
ANSWERED_STATUSES = frozenset({ResponseStatus.COMPLETED, ResponseStatus.INCOMPLETE})


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response as it is kept. `input_items` and `body` are as the wire has them, each item with an id.

    `previous_id` is the response that it continues, None for the first of a conversation. `request` is the body of a
    response in the background that has no answer yet, None of every other.
    """

    id: str
    resource_id: str
    created_at: datetime
    status: ResponseStatus
    previous_id: str | None
    input_items: Sequence[Json]
    body: Json
    request: Json | None = None


def response_id(hex32: str) -> str:
    return f"resp_{hex32}"


def item_place(hex32: str, index: int) -> str:
    """The end of the id of a response's `index`-th item of output: it names the response that holds the item."""
    return f"{hex32}{index:04x}"


def input_place(hex32: str, index: int) -> str:
    """As `item_place`, of the input."""
    return f"{hex32}{0x8000 + index:04x}"


def response_of_item(item_id: str) -> str | None:
    """The id of the response that an item's id names; None for an id that no response of this service gave."""
    prefix, _, place = item_id.partition("_")
    is_ours = (
        prefix in ("msg", "fc", "fco") and len(place) == 36 and all(digit in "0123456789abcdef" for digit in place)
    )
    return response_id(place[:32]) if is_ours else None
