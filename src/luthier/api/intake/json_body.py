"""A JSON body, read and validated before FastAPI sees the request: bounded, and large ones off the event loop."""

import json
from typing import Any, Protocol

import anyio.to_thread
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request

from luthier.api.intake import json_errors, json_values
from luthier.api.intake.body_limits import Intake
from luthier.api.intake.body_stream import BodyReader
from luthier.core.errors import InvalidRequest, TooLarge

INLINE_BYTES = 16 * 1024
"""Up to so much is validated on the event loop, in a millisecond or two; a larger body goes to a worker thread."""
FREE_BYTES = 64 * 1024
"""Smaller bodies are held uncounted: the limit on connections limits them."""
MAX_VALUES = 50_000
"""Parsing holds the interpreter lock for a time that grows with the number of values and hardly with their length: so
many take some 20 ms, as much as 8 MiB of text."""
MAX_ERRORS = 100


class BodyField(Protocol):
    """FastAPI's field for a route's body, as far as it is used here."""

    def validate(
        self, value: Any, values: dict[str, Any] = ..., *, loc: tuple[int | str, ...] = ...
    ) -> tuple[Any, list[dict[str, Any]]]:
        """The value as an instance of the route's model, and pydantic's errors, which are empty if it is one."""
        ...


class ParsedRequest(Request):
    """A request whose body has been read and parsed, which FastAPI takes for one that it has still to read.

    `value` is an instance of the route's model, None if the body or its content type is missing.
    """

    def __init__(self, request: Request, body: bytes, value: object) -> None:
        super().__init__(request.scope, request.receive)
        self._read = body
        self._value = value

    async def body(self) -> bytes:
        """What FastAPI looks at to know whether there is a body: not always the bytes that came."""
        return self._read

    async def json(self) -> Any:
        """The instance of the model, where FastAPI expects decoded JSON: it validates that once more, at no cost."""
        return self._value


class HeldBytes:
    """The bytes in memory for one request of a resource, counted in the intake until `release`."""

    def __init__(self, intake: Intake, resource_id: str) -> None:
        self._intake = intake
        self._resource_id = resource_id
        self._bytes = 0

    def grow(self, length: int) -> None:
        """Counts the body as `length` bytes long by now, unless it is small.

        Raises RateLimited if too much is held already.
        """
        more = length - self._bytes
        if length > FREE_BYTES and more > 0:
            self._intake.hold(self._resource_id, more)
            self._bytes = length

    def release(self) -> None:
        """Gives all of them back; does nothing the second time."""
        if self._bytes:
            self._intake.release(self._resource_id, self._bytes)
            self._bytes = 0


async def read_json(
    request: Request, incoming: BodyReader, held: HeldBytes, intake: Intake, field: BodyField
) -> Request:
    """The request with its body read, parsed and validated, large ones in a thread. The bytes stay counted in `held`.

    Raises TooLarge, TooSlow, RateLimited, InvalidRequest, and RequestValidationError. Only bytes that have arrived are
    counted: lengths that are declared and never sent would block everyone else.
    """
    chunks, length = [], 0
    while chunk := await incoming.chunk():
        chunks.append(chunk)
        length += len(chunk)
        held.grow(length)
    body = b"".join(chunks)
    if not body or "content-type" not in request.headers:
        return ParsedRequest(request, body, None)  # FastAPI reports either
    del chunks
    if len(body) <= INLINE_BYTES:
        value = parse(body, field)
    else:
        value = await anyio.to_thread.run_sync(parse, body, field, limiter=intake.parse_threads)
    return ParsedRequest(request, b"{}", value)  # FastAPI asks only whether there are any bytes


def parse(body: bytes, field: BodyField) -> object:
    """The body as an instance of the route's model.

    Raises RequestValidationError, TooLarge and InvalidRequest, all the caller's.
    """
    _check_number_of_values(body)
    try:
        decoded = json.loads(body)
    except RecursionError as error:
        raise InvalidRequest("invalid_json", "The body is nested too deeply to be read.") from error
    except ValueError as error:  # no JSON, no Unicode, or a number of thousands of digits
        raise json_errors.json_error(body) from error
    value, errors = field.validate(decoded, {}, loc=("body",))
    if errors := errors or json_values.errors(body, decoded):
        raise RequestValidationError(errors[:MAX_ERRORS])
    return value


def _check_number_of_values(body: bytes) -> None:
    """Raises TooLarge for more than MAX_VALUES values.

    Each step holds the interpreter lock for milliseconds only; a loop over tokens would not.
    """
    if _count_marks(body) <= MAX_VALUES:
        return
    # The marks may be inside strings: without escapes every second piece between quotes is outside of them.
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    if bare.count(b'"') <= 4 * MAX_VALUES and _count_marks(b"".join(bare.split(b'"')[::2])) <= MAX_VALUES:
        return
    text = f"The body holds more than {MAX_VALUES:,} values, the limit here. Send fewer fields or items."
    raise TooLarge("too_many_values", text)


def _count_marks(text: bytes) -> int:
    """At least the number of values in the JSON text less one: its commas and opening brackets, in strings too."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")
