"""multipart/form-data as a stream: fields first or last, one file whose bytes pass through and are never kept."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from luthier.core.errors import InvalidRequest

MAX_FIELD_BYTES = 64 * 1024
MAX_HEADER_BYTES = 16 * 1024
MAX_PARTS = 32


@dataclass(frozen=True, slots=True)
class Field:
    """A small part that is no file."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file part. `chunks` must be read to its end before the next part comes."""

    name: str
    filename: str
    chunks: Iterator[bytes]


def read(content_type: str, chunks: Iterable[bytes]) -> Iterator[Field | FilePart]:
    """Yields the parts in the order of the body. Raises InvalidRequest where the body is no multipart form."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise _broken("The body must be multipart/form-data with a boundary: fields `purpose` and `file`.")
    events = _events(boundary, chunks)
    for _ in range(MAX_PARTS):
        headers = next(events, None)
        if headers is None:
            return
        assert isinstance(headers, _Headers)
        name, filename = headers.names()
        body = _body(events)
        if filename is None:
            yield Field(name, _text(name, body))
        else:
            yield FilePart(name, filename, body)
            deque(body, maxlen=0)  # what the caller did not read
    raise _broken(f"The form has more than {MAX_PARTS} parts.")


class _Headers:
    """The headers of one part."""

    def __init__(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self._pairs = {name.lower(): value for name, value in pairs}

    def names(self) -> tuple[str, str | None]:
        _, options = parse_options_header(self._pairs.get(b"content-disposition", b""))
        name = options.get(b"name")
        if name is None:
            raise _broken("A part of the form has no name.")
        filename = options.get(b"filename")
        return name.decode("utf-8", "replace"), None if filename is None else filename.decode("utf-8", "replace")


class _End:
    """The end of one part's body."""


_Event = _Headers | bytes | _End


def _events(boundary: bytes, chunks: Iterable[bytes]) -> Iterator[_Event]:
    """The parser pushes; we pull: feeds it chunk by chunk and yields what it has found by then."""
    found: deque[_Event] = deque()
    pairs: list[tuple[bytes, bytes]] = []
    name, value = bytearray(), bytearray()

    def header_end() -> None:
        pairs.append((bytes(name), bytes(value)))
        name.clear()
        value.clear()

    def headers_finished() -> None:
        found.append(_Headers(pairs.copy()))
        pairs.clear()

    parser = MultipartParser(
        boundary,
        {
            "on_header_field": lambda data, start, end: name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: value.extend(data[start:end]),
            "on_header_end": header_end,
            "on_headers_finished": headers_finished,
            "on_part_data": lambda data, start, end: found.append(data[start:end]),
            "on_part_end": lambda: found.append(_End()),
        },
    )
    ended, in_body, tail = False, False, b""
    delimiter_bytes = len(b"\r\n--") + len(boundary) + len(b"--")
    for chunk in chunks:
        if in_body and b"\r" not in tail and b"\r" not in chunk:
            # A boundary begins with a CR: these are bytes of the part, none of which the parser need look at.
            yield chunk
            continue
        tail = (tail + chunk[-delimiter_bytes:])[-delimiter_bytes:]  # one that has begun may lie in several chunks
        try:
            parser.write(chunk)
        except MultipartParseError as error:
            raise _broken("The multipart body is malformed: its boundary or a part's headers are broken.") from error
        if len(name) + len(value) > MAX_HEADER_BYTES:
            raise _broken("The headers of a part are too long.")
        while found:
            event = found.popleft()
            ended = isinstance(event, _End)
            in_body = not ended
            yield event
    if not ended:
        raise _broken("The multipart body ends in the middle of a part; the upload broke off. Send it again.")


def _body(events: Iterator[_Event]) -> Iterator[bytes]:
    for event in events:
        if isinstance(event, _End):
            return
        assert isinstance(event, bytes)
        yield event


def _text(name: str, body: Iterator[bytes]) -> str:
    value = bytearray()
    for chunk in body:
        value += chunk
        if len(value) > MAX_FIELD_BYTES:
            raise InvalidRequest(
                "field_too_large", f"The form field {name!r} is longer than {MAX_FIELD_BYTES} bytes.", name
            )
    return value.decode("utf-8", "replace")


def _broken(message: str) -> InvalidRequest:
    return InvalidRequest("invalid_multipart", message, "file")
