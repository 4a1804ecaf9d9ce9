"""HTTP/1.1 by hand over asyncio: connections that can stop anywhere, from an address of the caller's choice."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

HOST = "127.0.0.1"
OTHER_CLIENT = "127.0.0.2"
"""The address that load comes from: the probe of health is another client, at 127.0.0.1."""
MAX_LINE_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer whole; `status` is 0 if the connection ended without one."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error's code, or nothing."""
        try:
            return str(self.json()["error"]["code"])
        except (ValueError, KeyError, TypeError):
            return ""


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(port: int, source: str = OTHER_CLIENT) -> Connection:
    return await asyncio.open_connection(HOST, port, local_addr=(source, 0), limit=MAX_LINE_BYTES)


def head(method: str, path: str, key: str = "", length: int | None = None, **headers: str) -> bytes:
    """The head of a request; `length` announces a body."""
    fields = {"host": HOST, "connection": "close"} | {name.replace("_", "-"): value for name, value in headers.items()}
    if key:
        fields["authorization"] = f"Bearer {key}"
    if length is not None:
        fields = {"content-type": "application/json"} | fields | {"content-length": str(length)}
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def ask(port: int, method: str, path: str, key: str = "", body: Any = None, source: str = OTHER_CLIENT) -> Answer:
    """One request on a connection of its own; `body` goes out as JSON."""
    content = None if body is None else json.dumps(body).encode()
    return await send(
        port, head(method, path, key, None if content is None else len(content)) + (content or b""), source
    )


async def send(port: int, request: bytes, source: str = OTHER_CLIENT) -> Answer:
    """The answer to bytes as they are."""
    try:
        reader, writer = await connect(port, source)
    except OSError:
        return Answer(0, {}, b"")
    try:
        writer.write(request)
        return await answer_of(reader)
    finally:
        writer.close()


async def answer_of(reader: asyncio.StreamReader) -> Answer:
    """Reads an answer to the end of its connection, chunks put together."""
    try:
        status, headers = await opening_of(reader)
        if headers.get("transfer-encoding") != "chunked":
            return Answer(status, headers, await reader.read())
        body = bytearray()
        while length := int(await reader.readline() or b"0", 16):
            body += (await reader.readexactly(length + 2))[:-2]
        return Answer(status, headers, bytes(body))
    except (OSError, ValueError, IndexError, asyncio.IncompleteReadError):
        return Answer(0, {}, b"")


async def opening_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Status and headers; the body is left in the reader. Raises ValueError or IndexError where there is none."""
    status = int((await reader.readline()).split()[1])
    headers: dict[str, str] = {}
    while line := (await reader.readline()).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    return status, headers


def events_of(body: bytes) -> list[Any]:
    """The JSON of server-sent events, the closing [DONE] left out."""
    lines = body.decode().splitlines()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ") and line != "data: [DONE]"]
