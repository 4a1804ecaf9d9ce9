"""What a route declares where it is registered: the action that its caller needs, its replies, the longest body."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from msgspec import Struct

from luthier.api.routing.json_schema import Schema
from luthier.core.roles import Action

JSON = "application/json"
SSE = "text/event-stream"
MULTIPART = "multipart/form-data"
JSON_BODY_BYTES = 512 * 1024
"""The longest JSON body outside of chat: the ids of the 10,000 parts of an upload."""
FORM_OVERHEAD_BYTES = 1024 * 1024
"""The longest form around a file's bytes."""


@dataclass(frozen=True, slots=True)
class PageOf:
    """A page of a list of these answers."""

    item: type[Struct]


@dataclass(frozen=True, slots=True)
class EventStreamOf:
    """Server-sent events, each with one of these as JSON, or an error as the last; then `[DONE]`."""

    item: type[Struct] | Schema


Content = type[Struct] | PageOf | EventStreamOf | Schema
"""What a body holds: an answer type, or a schema if no type of ours makes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A successful answer: its body by media type (nothing: no body), and the headers that it may or must have."""

    content: Mapping[str, Content] = field(default_factory=dict)
    status: int = 200
    headers: tuple[str, ...] = ()
    required_headers: tuple[str, ...] = ()


class Details(TypedDict, total=False):
    """What only some routes declare; `Operation` explains each."""

    errors: tuple[int, ...]
    form: Schema | None
    example: Mapping[str, Any] | None
    parameters: tuple[Schema, ...]
    max_body_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A route's declaration: what GuardedRoute enforces, and what the OpenAPI document says.

    `action` is None only if the route needs no key. `replies` are the successful answers, the first with the status of
    a plain answer; `errors` are statuses beyond those that follow from method, path and body. `form` is the multipart
    body of a route that parses it itself, `example` an example of a JSON body. `parameters` are those that the route
    reads from the request itself, or that FastAPI describes too briefly. `max_body_bytes` is where a body is refused
    with 413.
    """

    action: Action | None
    summary: str
    replies: tuple[Reply, ...]
    errors: tuple[int, ...] = ()
    form: Schema | None = None
    example: Mapping[str, Any] | None = None
    parameters: tuple[Schema, ...] = ()
    max_body_bytes: int = JSON_BODY_BYTES


def json_reply(
    content: Content, status: int = 200, *, headers: tuple[str, ...] = (), required_headers: tuple[str, ...] = ()
) -> Reply:
    """A reply with a JSON body."""
    return Reply(content={JSON: content}, status=status, headers=headers, required_headers=required_headers)


NO_CONTENT = Reply(status=204)
