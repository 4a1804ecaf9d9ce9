"""multipart/form-data as a stream: fields in any order, one file whose bytes are never held in memory as a whole.

Starlette's own form parser would store the file in a temporary file before the endpoint is called.
"""

import re
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio.to_thread
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from luthier.core.errors import InvalidRequest

MAX_FIELD_BYTES = 64 * 1024
MAX_HEADER_BYTES = 16 * 1024
MAX_PARTS = 32
DEFAULT_FILENAME = "upload"
"""The name of a file that has none, as OpenAI's SDKs name it too."""
MAX_NAME_BYTES = 1024
"""A file part without a filename, no longer than this and of one line, may hold the name of a file instead of it."""
_FILE_NAME = re.compile(r"@?[\w .~:/\\()-]{1,255}")
INLINE_BYTES = 16 * 1024
"""Up to so much is parsed on the event loop, in well under a millisecond; more goes to a worker thread."""


@dataclass(frozen=True, slots=True)
class Field:
    """A small part that is not a file, at most MAX_FIELD_BYTES long, as text."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file part. What is not read of `chunks` before the next part is requested is discarded."""

    name: str
    filename: str
    chunks: AsyncIterator[bytes]


async def read_form(
    content_type: str, chunks: AsyncIterator[bytes], file_field: str = "file"
) -> AsyncIterator[Field | FilePart]:
    """Yields the parts in the order of the body; that of `file_field` is a file, even without a filename.

    Parses larger chunks in a worker thread. Raises InvalidRequest if the body is not a multipart form, is cut off or
    has too many parts, and what `chunks`, the body's bytes, raise.
    """
    content, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if content != b"multipart/form-data" or not boundary:
        raise _malformed("The body must be multipart/form-data with a boundary: fields `purpose` and `file`.")
    events = _Events(boundary, chunks)
    for _ in range(MAX_PARTS):
        headers = await events.next()
        if headers is None:
            return
        assert isinstance(headers, _Headers)
        name, filename = headers.names()
        part_body = _Body(events)
        body: _Body | _UnnamedFile = part_body
        if filename is None and name == file_field:
            filename, body = DEFAULT_FILENAME, _UnnamedFile(name, part_body)
        if filename is None:
            yield Field(name, await _text(name, body))
        else:
            yield FilePart(name, filename, body)
            async for _ in body:
                pass
    raise _malformed(f"The form has more than {MAX_PARTS} parts.")


class _Headers:
    """The headers of one part, by lower-case name."""

    def __init__(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self._pairs = {name.lower(): value for name, value in pairs}

    def names(self) -> tuple[str, str | None]:
        """The part's form name, and its filename, None without one. Raises InvalidRequest for a part without a name."""
        _, options = parse_options_header(self._pairs.get(b"content-disposition", b""))
        name = options.get(b"name")
        if name is None:
            raise _malformed("A part of the form has no name.")
        filename = options.get(b"filename")
        return name.decode("utf-8", "replace"), None if filename is None else filename.decode("utf-8", "replace")


class _End:
    """The end of one part's body."""


_Event = _Headers | bytes | _End


class _Events:
    """The parser's events for the chunks: of each part its headers, its bytes, its end."""

    def __init__(self, boundary: bytes, chunks: AsyncIterator[bytes]) -> None:
        self._parser = _Parser(boundary)
        self._chunks = chunks
        self._pending: deque[_Event] = deque()

    async def next(self) -> _Event | None:
        """The next event, None at the end of the form. Reads and parses a chunk if none is pending.

        Raises InvalidRequest if the body ends within a part.
        """
        while not self._pending:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                if not self._parser.has_ended:
                    raise _malformed(
                        "The multipart body ends in the middle of a part; the upload was cut off. Send it again."
                    )
                return None
            if self._parser.is_only_bytes(chunk):
                return chunk
            if len(chunk) <= INLINE_BYTES:
                self._pending.extend(self._parser.feed(chunk))
            else:
                self._pending.extend(await anyio.to_thread.run_sync(self._parser.feed, chunk))
        return self._pending.popleft()


class _Parser:
    """The multipart parser: bytes in, events out. `has_ended` is whether the last event was the end of a part."""

    def __init__(self, boundary: bytes) -> None:
        """Prepares a parser for the boundary, whose callbacks append events to `_pending`."""
        self._pending: list[_Event] = []
        self._pairs: list[tuple[bytes, bytes]] = []
        self._name, self._value = bytearray(), bytearray()
        self._in_body = False
        self._tail = b""
        self._delimiter_bytes = len(b"\r\n--") + len(boundary) + len(b"--")
        self.has_ended = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": lambda data, start, end: self._pending.append(data[start:end]),
                "on_part_end": lambda: self._pending.append(_End()),
            },
        )

    def is_only_bytes(self, chunk: bytes) -> bool:
        """Whether the whole chunk is bytes of a part: a boundary begins with a CR, and the chunk has none."""
        return self._in_body and b"\r" not in self._tail and b"\r" not in chunk

    def feed(self, chunk: bytes) -> list[_Event]:
        """Parses one chunk; returns its events, which may be none.

        Raises InvalidRequest for a malformed form, or too long headers of a part.
        """
        # A delimiter may be split over several chunks.
        self._tail = (self._tail + chunk[-self._delimiter_bytes :])[-self._delimiter_bytes :]
        try:
            self._parser.write(chunk)
        except MultipartParseError as error:
            raise _malformed("The multipart body is malformed: its boundary or a part's headers are broken.") from error
        if len(self._name) + len(self._value) > MAX_HEADER_BYTES:
            raise _malformed("The headers of a part are too long.")
        events, self._pending = self._pending, []
        if events:
            self.has_ended = isinstance(events[-1], _End)
            self._in_body = not self.has_ended
        return events

    def _header_end(self) -> None:
        """Called by the parser after each header line: moves its name and value into the part's headers."""
        self._pairs.append((bytes(self._name), bytes(self._value)))
        self._name.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        """Called by the parser after a part's headers: makes them an event."""
        self._pending.append(_Headers(self._pairs.copy()))
        self._pairs.clear()


class _Body:
    """The bytes of one part, taken from the form's events until the part's end."""

    def __init__(self, events: _Events) -> None:
        self._events = events
        self._ended = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next bytes of the part. Raises InvalidRequest as `_Events.next`."""
        if not self._ended:
            event = await self._events.next()
            if isinstance(event, bytes):
                return event
            assert isinstance(event, _End)
            self._ended = True
        raise StopAsyncIteration


class _UnnamedFile:
    """The bytes of a file part without a filename, unless they are only a file's name: `-F file=rows.jsonl`."""

    def __init__(self, name: str, body: _Body) -> None:
        self._name = name
        self._body = body
        self._beginning: bytes | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The next bytes of the part; the first ones once they are known to be content.

        Raises InvalidRequest if the part holds only the name of a file.
        """
        if self._beginning is not None:
            return await anext(self._body)
        self._beginning = b""
        async for chunk in self._body:
            self._beginning += chunk
            if len(self._beginning) > MAX_NAME_BYTES or b"\n" in self._beginning:
                return self._beginning
        text = self._beginning.decode("utf-8", "replace").strip()
        if _FILE_NAME.fullmatch(text):
            raise InvalidRequest(
                "missing_file",
                f"The form field {self._name} holds the text {text[:100]!r}, and no file. Send the file itself: with "
                f"curl -F {self._name}=@{text[:100]}, in a client as a part with a filename.",
                self._name,
            )
        if not self._beginning:
            raise StopAsyncIteration
        return self._beginning


async def _text(name: str, body: AsyncIterator[bytes]) -> str:
    """The part as text; bytes that are no UTF-8 become U+FFFD. Raises InvalidRequest beyond MAX_FIELD_BYTES."""
    value = bytearray()
    async for chunk in body:
        value += chunk
        if len(value) > MAX_FIELD_BYTES:
            raise InvalidRequest(
                "field_too_large", f"The form field {name!r} is longer than {MAX_FIELD_BYTES} bytes.", name
            )
    return value.decode("utf-8", "replace")


def _malformed(message: str) -> InvalidRequest:
    """The 400 for a body that is no multipart form."""
    return InvalidRequest("invalid_multipart", message, "file")
