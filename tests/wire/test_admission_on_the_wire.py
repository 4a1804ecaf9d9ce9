"""Overload, callers who leave, and prompts that can never fit, as a caller sees them."""

import asyncio
import gc
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
from openai import APIStatusError, BadRequestError, OpenAI, RateLimitError

from asgi_switch import Switch
from fakes import BASE, KEY, EchoEngine, engine_calls
from loop_steps import Steps
from luthier.api import server
from luthier.api.http.disconnects import EventStream
from luthier.api.services import Services
from luthier.core.engine_ports import Capacity
from luthier.service.context import Context
from luthier.service.models import models
from luthier.service.models.serving import Serving
from luthier.service.scheduling.admission import QueueLimits
from luthier.service.scheduling.engine_calls import EngineCalls
from luthier.service.tenants import resources
from waiting import until

HELLO = [{"role": "user", "content": "hello"}]
FREE_WITHIN_S = 1.0


@pytest.fixture
def calls() -> EngineCalls:
    return engine_calls(QueueLimits(requests=1, wait_s=30.0))


@pytest.fixture
def narrow(
    switch: tuple[Switch, str], context: Context, serving: Serving, engine: EchoEngine, calls: EngineCalls
) -> Iterator[str]:
    """A service whose engine has one slot and 100 tokens of context, and before which one request may wait."""
    engine.capacity = Capacity("engine", slots=1, context_tokens=100, window_tokens=80)
    made, address = switch
    made.app = server.build(Services(context, serving, lambda: None, calls=calls), None)
    serving.address(models.get(context, "default", BASE))
    yield address
    engine.holds.clear()
    engine.loads.clear()


@pytest.fixture
def client(narrow: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{narrow}/v1", api_key=KEY, max_retries=0) as client:
        yield client


Send = Callable[[str, dict[str, Any]], socket.socket]


@pytest.fixture
def send(narrow: str) -> Iterator[Send]:
    """Sends a request without waiting for its answer."""
    host, _, port = narrow.removeprefix("http://").partition(":")
    with ExitStack() as opened:

        def sent(path: str, body: dict[str, Any]) -> socket.socket:
            data = json.dumps({"model": BASE, **body}).encode()
            head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
            head += f"content-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
            connection = opened.enter_context(socket.create_connection((host, int(port)), timeout=10))
            connection.sendall(head.encode() + data)
            return connection

        yield sent


CHAT = ("/v1/chat/completions", {"messages": HELLO})
TEXT = ("/v1/completions", {"prompt": "hello"})


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("path", "body"), [CHAT, TEXT])
def test_slot_of_a_caller_who_left_is_free_within_a_second(
    send: Send, engine: EchoEngine, client: OpenAI, path: str, body: dict[str, Any], stream: bool
) -> None:
    engine.holds.set()
    leaving = send(path, {**body, "stream": stream})
    until(lambda: engine.busy)
    leaving.close()
    assert until(lambda: not engine.busy) < FREE_WITHIN_S
    engine.holds.clear()
    assert client.chat.completions.create(model=BASE, messages=HELLO).choices


def test_slot_that_is_busy_a_moment_longer_is_given_to_the_next_in_time(
    send: Send, engine: EchoEngine, client: OpenAI
) -> None:
    engine.notices_after_s = 0.4
    took_s: list[float] = []
    while len(took_s) < 3 and min(took_s, default=FREE_WITHIN_S) >= FREE_WITHIN_S:  # a busy machine may be late
        engine.holds.set()
        leaving = send(*CHAT)
        until(lambda: engine.busy)
        left = time.monotonic()  # from here on the engine takes its time to notice
        leaving.close()
        engine.holds.clear()
        assert client.chat.completions.create(model=BASE, messages=HELLO).choices
        took_s.append(time.monotonic() - left)
    assert engine.notices_after_s < min(took_s) < FREE_WITHIN_S


def test_caller_who_leaves_the_queue_is_never_computed_for(send: Send, engine: EchoEngine, calls: EngineCalls) -> None:
    engine.holds.set()
    answered = send(*CHAT)
    until(lambda: engine.busy)
    waiting = send(CHAT[0], {"messages": [{"role": "user", "content": "nobody waits"}]})
    until(lambda: calls.n_waiting() == 1)
    waiting.close()
    until(lambda: calls.n_waiting() == 0)
    last = send(CHAT[0], {"messages": [{"role": "user", "content": "the last"}]})
    engine.holds.clear()
    assert b"200 OK" in last.recv(100)
    assert b"200 OK" in answered.recv(100)
    assert "nobody waits" not in json.dumps(engine.asked)


def test_full_queue_is_a_429_with_the_time_to_retry(
    narrow: str, send: Send, engine: EchoEngine, client: OpenAI, calls: EngineCalls
) -> None:
    engine.holds.set()
    held = [send(*CHAT)]
    until(lambda: engine.busy)
    held.append(send(*CHAT))
    until(lambda: calls.n_waiting() == 1)
    with pytest.raises(RateLimitError, match="currently overloaded") as refusal:
        client.chat.completions.create(model=BASE, messages=HELLO)
    assert refusal.value.code == "rate_limit_exceeded"
    assert int(refusal.value.response.headers["retry-after"]) >= 1
    assert "x-should-retry" not in refusal.value.response.headers
    assert httpx2.get(f"{narrow}/healthz").status_code == 200
    engine.holds.clear()
    assert [connection.recv(15) for connection in held] == [b"HTTP/1.1 200 OK"] * 2


@pytest.mark.parametrize(
    ("asked", "code", "param"),
    [
        ({"messages": [{"role": "user", "content": "x" * 80}]}, "context_length_exceeded", "messages"),
        ({"messages": HELLO, "max_tokens": 76}, "context_length_exceeded", "messages"),
        ({"messages": HELLO, "max_tokens": 51, "n": 2}, "invalid_value", "max_tokens"),
    ],
)
def test_what_can_never_fit_is_refused_before_the_engine_is_asked(
    client: OpenAI, engine: EchoEngine, asked: dict[str, Any], code: str, param: str
) -> None:
    with pytest.raises(BadRequestError) as refusal:
        client.chat.completions.create(model=BASE, **asked)
    assert (refusal.value.code, refusal.value.param) == (code, param)
    assert engine.asked == []


def test_prompt_of_too_many_tokens_is_refused_in_completions_too(client: OpenAI, engine: EchoEngine) -> None:
    for prompt in ("x" * 81, [1] * 81, "x" * 30_000):
        with pytest.raises(BadRequestError, match="maximum context length is 80 tokens"):
            client.completions.create(model=BASE, prompt=prompt)
    assert engine.asked == []


def test_answers_of_one_request_share_the_context(client: OpenAI, engine: EchoEngine) -> None:
    client.chat.completions.create(model=BASE, messages=HELLO, n=10)
    assert [body["max_tokens"] for body in engine.asked] == [10] * 10


def test_what_a_slot_holds_is_read_again_by_the_same_resource_only(
    narrow: str, context: Context, client: OpenAI, engine: EchoEngine
) -> None:
    others_key = resources.create(context, "other", "group", "22222222-2222-2222-2222-222222222222")[1][0]
    other = client.with_options(api_key=others_key)
    for caller in (client, other, other, client):
        caller.chat.completions.create(model=BASE, messages=HELLO)
    assert [body["cache_prompt"] for body in engine.asked] == [False, False, True, False]


def test_slot_of_a_broken_answer_is_read_again_by_nobody(client: OpenAI, engine: EchoEngine) -> None:
    client.chat.completions.create(model=BASE, messages=HELLO)
    with pytest.raises(APIStatusError):
        client.chat.completions.create(model=BASE, messages=[{"role": "user", "content": "die"}])
    client.chat.completions.create(model=BASE, messages=HELLO)
    assert engine.asked[-1]["cache_prompt"] is False


@pytest.mark.parametrize("stream", [False, True])
def test_engine_that_ends_in_a_call_is_a_503_with_the_time_to_retry(client: OpenAI, stream: bool) -> None:
    with pytest.raises(APIStatusError) as refusal:
        client.chat.completions.create(model=BASE, messages=[{"role": "user", "content": "die"}], stream=stream)
    assert (refusal.value.status_code, refusal.value.code) == (503, "engine_gone")
    assert refusal.value.response.headers["retry-after"] == "5"


def test_waiting_for_a_model_to_load_holds_up_nobody_else(narrow: str, send: Send, engine: EchoEngine) -> None:
    engine.models.clear()
    engine.loads.set()
    waiting = [send(*CHAT) for _ in range(50)]  # more than there are worker threads
    began = time.monotonic()
    assert httpx2.get(f"{narrow}/v1/files", headers={"authorization": f"Bearer {KEY}"}, timeout=5).status_code == 200
    assert httpx2.get(f"{narrow}/readyz", timeout=5).status_code == 200
    assert time.monotonic() - began < 5
    assert len(waiting) == 50


def test_readiness_names_the_engine_that_does_not_answer(narrow: str, engine: EchoEngine) -> None:
    engine.said_faults.append("The engine of it has not answered for 3 s.")
    answer = httpx2.get(f"{narrow}/readyz")
    assert (answer.status_code, answer.json()["status"]) == (503, "The engine of it has not answered for 3 s.")


def test_reader_who_stops_reading_ends_the_stream(engine: EchoEngine) -> None:
    async def main() -> None:
        closed = asyncio.Event()

        async def events() -> Any:
            try:
                while True:
                    yield "data: {}\n\n"
            finally:
                closed.set()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()

        async def receive() -> Any:
            await asyncio.Event().wait()

        stream = EventStream(events(), write_s=0.02)
        await asyncio.wait_for(stream({"type": "http"}, receive, send), 5)
        assert closed.is_set()

    asyncio.run(main())


def test_chats_hold_the_event_loop_for_no_more_than_50_ms(
    context: Context, serving: Serving, engine: EchoEngine, switch: tuple[Switch, str]
) -> None:
    engine.capacity = Capacity("engine", slots=8, context_tokens=16_000, window_tokens=8_000)
    steps = Steps()

    async def main() -> list[int]:
        asyncio.get_running_loop().set_task_factory(steps)
        app = server.build(Services(context, serving, lambda: None, calls=engine_calls()), None)
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://x", timeout=60) as caller:

            async def ask(stream: bool, path: str, body: dict[str, Any]) -> int:
                headers = {"authorization": f"Bearer {KEY}"}
                asked = {"model": BASE, **body, "stream": stream}
                return (await caller.post(path, json=asked, headers=headers)).status_code

            await ask(False, *CHAT)
            steps.longest.clear()
            gc.disable()  # the tests' own garbage is no call of the service's
            return list(await asyncio.gather(*(ask(at % 2 == 0, *(CHAT, TEXT)[at % 3 == 0]) for at in range(40))))

    try:
        assert set(asyncio.run(main())) == {200}
    finally:
        gc.enable()
    assert {name: seconds for name, seconds in steps.longest.items() if seconds > 0.05} == {}
