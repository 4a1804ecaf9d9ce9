"""Calls of a host over HTTP: what it sends, and each way in which it can go."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from luthier.core.errors import RateLimited
from luthier.core.inference import host_values
from luthier.core.inference.engine_hosts import PATH, HostGone, Operation
from luthier.engine_host import answer_lines
from luthier.engines.hosts.host_client import HttpHostClient

STALLED_S = 0.5


class Host:
    """A server whose answers a test decides."""

    def __init__(self) -> None:
        self.answer: Callable[[], Response] = lambda: PlainTextResponse("", 404)
        self.headers: list[str | None] = []
        self.has_left = threading.Event()

    async def __call__(self, request: Request) -> Response:
        self.headers.append(request.headers.get("authorization"))
        assert request.path_params["operation"] == "states"
        return self.answer()

    def sends(self, *lines: bytes, then: float = 0.0, breaks: bool = False) -> None:
        async def body() -> AsyncIterator[bytes]:
            try:
                for line in lines:
                    yield line
                await asyncio.sleep(then)
                if breaks:
                    raise OSError("the host ends")
            except asyncio.CancelledError:
                self.has_left.set()
                raise

        self.answer = lambda: StreamingResponse(body())


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def url(host: Host) -> Iterator[str]:
    app = Starlette(routes=[Route(PATH + "{operation}", host.__call__, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = server.force_exit = True
    thread.join()


def line(**value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def ask(url: str, way: str) -> Any:
    """The answer in one of two ways: on an event loop, or blocking."""

    async def on_loop(client: HttpHostClient) -> Any:
        try:
            return await client.ask(url, Operation.STATES, {"a": 1})
        finally:
            await client.close()

    client = HttpHostClient("the key", STALLED_S)
    try:
        return asyncio.run(on_loop(client)) if way == "loop" else client.ask_now(url, Operation.STATES, {"a": 1})
    finally:
        asyncio.run(client.close())
        client.close_now()


WAYS = pytest.mark.parametrize("way", ["loop", "thread"])


@WAYS
def test_value_comes_behind_heartbeats_with_the_key_in_the_call(host: Host, url: str, way: str) -> None:
    host.sends(b"{}\n", b"{}\n", line(value={"x": 0.1}), line(end=True))
    assert ask(url, way) == {"x": 0.1}
    assert host.headers == ["Bearer the key"]


@WAYS
def test_error_of_the_host_is_raised_as_it_was(host: Host, url: str, way: str) -> None:
    host.sends(line(error=host_values.error(RateLimited("queue_full", "Wait.", 3.0))))
    with pytest.raises(RateLimited, match="Wait") as raised:
        ask(url, way)
    assert raised.value.retry_after_s == 3.0


@WAYS
@pytest.mark.parametrize("lines", [(), (b"{}\n",), (b"no json\n",)])
def test_answer_without_a_last_line_is_a_host_that_is_gone(
    host: Host, url: str, way: str, lines: tuple[bytes, ...]
) -> None:
    host.sends(*lines)
    with pytest.raises(HostGone):
        ask(url, way)


@WAYS
def test_host_that_is_silent_is_gone(host: Host, url: str, way: str) -> None:
    host.sends(b"{}\n", then=30)
    began = time.monotonic()
    with pytest.raises(HostGone):
        ask(url, way)
    assert time.monotonic() - began < 20


@WAYS
def test_host_that_breaks_off_is_gone(host: Host, url: str, way: str) -> None:
    host.sends(b"{}\n", breaks=True)
    with pytest.raises(HostGone):
        ask(url, way)


@WAYS
@pytest.mark.parametrize(("status", "code"), [(401, "engine_host_key"), (404, "engine_host_version")])
def test_other_key_and_other_protocol_are_named(host: Host, url: str, way: str, status: int, code: str) -> None:
    host.answer = lambda: PlainTextResponse("", status)
    with pytest.raises(HostGone) as raised:  # another host may know this process
        ask(url, way)
    assert raised.value.code == code


@WAYS
def test_host_with_too_many_connections_is_busy_and_not_gone(host: Host, url: str, way: str) -> None:
    host.answer = lambda: PlainTextResponse("", 503)
    with pytest.raises(RateLimited) as raised:
        ask(url, way)
    assert raised.value.code == "engine_host_busy"


@WAYS
@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://x:notaport", "https://127.0.0.1:9"])
def test_address_that_cannot_be_reached_is_a_host_that_is_gone(way: str, address: str) -> None:
    with pytest.raises(HostGone):
        ask(address, way)


def test_caller_that_leaves_ends_the_call_at_the_host(host: Host, url: str) -> None:
    host.sends(line(value=1), then=30)

    async def leave() -> None:
        client = HttpHostClient("k")
        stream = client.stream(url, Operation.STATES, {})
        assert await anext(stream) == 1
        await stream.aclose()
        await client.close()
        client.close_now()

    asyncio.run(leave())
    assert host.has_left.wait(10)


def test_heartbeats_fill_the_time_between_values_and_closing_ends_the_operation() -> None:
    ended = []

    async def values() -> AsyncIterator[object]:
        try:
            yield 1
            await asyncio.sleep(0.2)
            yield 2
            await asyncio.sleep(60)
        finally:
            ended.append(True)

    async def run() -> list[bytes]:
        lines = answer_lines.lines(values(), heartbeat_s=0.05)
        found = []
        async for one in lines:
            found.append(one)
            if one == b'{"value":2}\n':
                break
        await lines.aclose()
        return found

    found = asyncio.run(run())
    assert found[0] == b'{"value":1}\n'
    assert found[-1] == b'{"value":2}\n'
    assert set(found[1:-1]) == {b"{}\n"}
    assert ended == [True]
