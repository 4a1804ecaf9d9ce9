"""What answers are built of: described JSON types, lists by page, and the two ways to send an unknown value.

An answer is a msgspec Struct: it is encoded as it is declared, and the OpenAPI document is derived from it. A field
with the default UNSET is left out unless it is set; every other field is always sent.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, Generic, Literal, Protocol, TypeVar

from msgspec import UNSET, Meta, Raw, Struct, UnsetType

T = TypeVar("T")

Unix = Annotated[int, Meta(description="Seconds since 1970, UTC.")]
Figures = Annotated[dict[str, float], Meta(description="Figures by name: train_loss, full_valid_loss and the like.")]
RawEventData = Annotated[
    Raw,
    Meta(
        description="Figures by name (train_loss, full_valid_loss ...), or the code of a message and its values.",
        extra_json_schema={"type": "object", "additionalProperties": True},
    ),
]
"""Data of an event as JSON text, which is sent as it was stored."""


class Identified(Protocol):
    """An answer that a list can be continued after."""

    id: str


# Without `has_more` newer SDKs never stop asking (wire-contract.md section 2.5).
class Page(Struct, Generic[T], kw_only=True):
    """One page of a list, with the first and last id of it (null if it is empty).

    `has_more` is always sent.
    """

    object: Literal["list"] = "list"
    data: list[T]
    has_more: Annotated[bool, Meta(description="Ask again with after=last_id.")]
    first_id: str | None
    last_id: str | None


class Deleted(Struct, Generic[T], kw_only=True):
    """The confirmation that something was deleted."""

    id: str
    object: T
    deleted: Literal[True] = True


def page(items: Sequence[Identified], has_more: bool) -> Page[Any]:
    """A page that holds these items; `has_more` is whether the list goes on after them."""
    first_id, last_id = (items[0].id, items[-1].id) if items else (None, None)
    return Page(data=list(items), has_more=has_more, first_id=first_id, last_id=last_id)


def one_of(words: Iterable[object]) -> Meta:
    """A string out of a closed set, each word once, in the given order."""
    return Meta(extra_json_schema={"enum": list(dict.fromkeys(str(word) for word in words))})


def unset_if_none(value: T | None) -> T | UnsetType:
    """The value, or UNSET so that the field is left out."""
    return UNSET if value is None else value


def unix(time: datetime) -> int:
    """Whole seconds since 1970, UTC."""
    return int(time.timestamp())


def unix_or_none(time: datetime | None) -> int | None:
    """Whole seconds since 1970, UTC; None for None."""
    return None if time is None else unix(time)
