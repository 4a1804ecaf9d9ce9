"""The bench of load: its own client reads answers right, and its figures say what happened."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable

import pytest
from bench.load import chats, connections, probe, wire
from bench.load.probe import Health

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def against(handler: Handler, act: Callable[[int], Awaitable[object]]) -> object:
    """What `act` gives with a server on loopback whose connections `handler` answers."""

    async def both() -> object:
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        try:
            return await act(server.sockets[0].getsockname()[1])
        finally:
            server.close()

    return asyncio.run(both())


def says(answer: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    return handler


CHUNKED = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nRetry-After: 3\r\n\r\n"
    b'9\r\ndata: {"a\r\n6\r\n":1}\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n'
)


def test_wire_chunked_answer_is_put_together() -> None:
    answer = against(says(CHUNKED), lambda port: wire.ask(port, "GET", "/"))
    assert isinstance(answer, wire.Answer)
    assert (answer.status, answer.headers["retry-after"]) == (200, "3")
    assert wire.events_of(answer.body) == [{"a": 1}]


def test_wire_connection_closed_without_an_answer_has_status_zero() -> None:
    answer = against(says(b""), lambda port: wire.ask(port, "GET", "/"))
    assert isinstance(answer, wire.Answer)
    assert answer.status == 0


def streamed(*texts: str) -> wire.Answer:
    lines = [f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n" for text in texts]
    return wire.Answer(200, {}, "".join(lines).encode())


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (streamed("It is ", "Jupiter."), "right"),
        (streamed("It is Mars."), "wrong answer"),
        (wire.Answer(200, {}, b'data: {"error": {"message": "no"}}\n\n'), "error in the stream"),
        (wire.Answer(429, {"retry-after": "1"}, b"{}"), "429"),
        (wire.Answer(429, {}, b"{}"), "429 without retry-after"),
        (wire.Answer(503, {}, b'{"error": {"code": "engine_gone"}}'), "503 engine_gone"),
    ],
)
def test_outcome_of_a_stream_tells_right_from_everything_else(answer: wire.Answer, outcome: str) -> None:
    assert chats.outcome_of(answer, "It is Jupiter.") == outcome


def test_silent_connections_are_counted_by_how_they_were_ended() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.readexactly(1)) == b"c":
            writer.write(b'HTTP/1.1 408 Timeout\r\n\r\n{"error": {"code": "late"}}')
            writer.close()
        await reader.read()
        writer.close()

    async def act(port: int) -> object:
        opened = [*await connections.opened(port, 2, b"c"), *await connections.opened(port, 1, b"o"), None]
        return await connections.held(opened, 0.2)

    assert against(handler, act) == {"408 late": 2, "open after 0 s": 1, "no connection": 1}


def test_probe_sees_health_of_a_server_and_its_failures() -> None:
    answers = iter([b"HTTP/1.1 200 OK\r\n\r\n"] * 3)
    answered = threading.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        answer = next(answers, None)
        writer.write(answer or b"HTTP/1.1 503 No\r\n\r\n")
        writer.close()
        if answer is None:
            answered.set()

    async def act(port: int) -> Health:
        def watch() -> Health:
            with probe.watching(port) as health:
                answered.wait(60)
            return health

        return await asyncio.to_thread(watch)

    health = against(handler, act)
    assert isinstance(health, Health)
    assert len(health.each_s) - health.failed == 3
    assert health.failed >= 1


def test_percentiles_are_of_the_ordered_answers() -> None:
    health = Health([number / 1000 for number in range(100, 0, -1)])
    assert health.percentile_ms(0.5) == pytest.approx(51)
    assert health.percentile_ms(0.99) == pytest.approx(100)
    assert Health().percentile_ms(0.5) == float("inf")
