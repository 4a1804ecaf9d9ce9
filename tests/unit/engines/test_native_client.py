"""The client of our own engine, against an engine of a few lines: answers, refusals, silence, and connections lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any

import pytest

from luthier.core.engine_ports import Address
from luthier.core.errors import InvalidRequest, Unavailable, UpstreamFailed
from luthier.core.inference.generation import MIN_LOG_PROB, EngineDelta, FinishReason, Usage
from luthier.engines.native.client import NativeClient
from luthier.engines.native.protocol import Message, MessageReader, encode

Say = Callable[[Message], None]
Script = Callable[[Message, Say], None]
REQUEST = {"prompt": [1, 2, 3], "max_tokens": 4, "cache_scope": "mine", "model": "m", "adapter": "a", "tokenizer": "t"}


class Engine:
    """Hears what clients say, and answers each call as a script does."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.heard: list[Message] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.address = Address("native://127.0.0.1:0", {})

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        messages = MessageReader()
        while data := await reader.read(1 << 16):
            for message in messages.feed(data):
                self.heard.append(message)
                if "key" not in message:
                    self._script(message, partial(answer, writer, message["call"]))
        writer.close()

    @property
    def cancelled(self) -> list[int]:
        return [message["call"] for message in self.heard if message.get("op") == "cancel"]


def answer(writer: asyncio.StreamWriter, call: int, message: Message) -> None:
    writer.write(encode({**message, "call": call}))


@asynccontextmanager
async def opened(script: Script, stalled_s: float = 30.0) -> AsyncIterator[tuple[NativeClient, Engine]]:
    engine, client = Engine(script), NativeClient(stalled_s)
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    engine.address = Address(f"native://127.0.0.1:{port}", {"adapter": "ft"}, {"key": "secret"})
    try:
        yield client, engine
    finally:
        await client.close()
        server.close()
        for writer in engine.writers:
            writer.close()
        await asyncio.sleep(0)


def run(script: Script, use: Callable[[NativeClient, Engine], Awaitable[None]], stalled_s: float = 30.0) -> None:
    async def main() -> None:
        async with opened(script, stalled_s) as (client, engine):
            await asyncio.wait_for(use(client, engine), 20)

    asyncio.run(main())


def answer_two(message: Message, tell: Say) -> None:
    """Two pieces of text and the end; nothing to a cancellation."""
    if message["op"] == "generate":
        entry = [7, b"\xc3", -0.5, [[7, b"\xc3", -0.5], [8, b"b", -1e30]]]
        tell({"progress": 2})
        tell({"text": "one", "log_probs": [entry]})
        tell({"text": " two", "log_probs": [], "finish": "length", "usage": [3, 2, 1]})


def silent(message: Message, tell: Say) -> None:
    """Says nothing."""


async def received(client: NativeClient, address: Address, **fields: Any) -> list[EngineDelta | Usage]:
    async with aclosing(client.generate(address, {**REQUEST, **fields})) as pieces:
        return [each async for each in pieces]


def test_answer_is_given_in_its_pieces_with_its_usage_last() -> None:
    async def use(client: NativeClient, engine: Engine) -> None:
        first, second, usage = await received(client, engine.address)
        assert first == EngineDelta("one")
        assert second == EngineDelta(" two", finish_reason=FinishReason.LENGTH)
        assert usage == Usage(3, 2, 1)

    run(answer_two, use)


def test_log_probabilities_are_given_where_they_are_asked_for() -> None:
    async def use(client: NativeClient, engine: Engine) -> None:
        first, *_ = await received(client, engine.address, logprobs=2)
        assert isinstance(first, EngineDelta)
        (entry,) = first.log_probs or ()
        assert (entry.token, entry.bytes, entry.log_prob) == ("\ufffd", [0xC3], -0.5)
        assert [(top.token, top.log_prob) for top in entry.top] == [("\ufffd", -0.5), ("b", MIN_LOG_PROB)]

    run(answer_two, use)


def test_request_is_sent_behind_the_key_and_without_what_the_address_says() -> None:
    async def use(client: NativeClient, engine: Engine) -> None:
        await received(client, engine.address, temperature=0.5)
        key, asked = engine.heard[:2]
        assert key == {"key": "secret"}
        assert asked == {
            "op": "generate",
            "call": asked["call"],
            "model": "ft",
            "prompt": [1, 2, 3],
            "scope": "mine",
            "request": {"max_tokens": 4, "temperature": 0.5},
        }

    run(answer_two, use)


@pytest.mark.parametrize(
    ("code", "kind"),
    [("model_not_loaded", Unavailable), ("invalid_request", InvalidRequest), ("engine_failed", UpstreamFailed)],
)
def test_refusal_of_the_engine_is_the_error_of_its_kind(code: str, kind: type[Exception]) -> None:
    async def use(client: NativeClient, engine: Engine) -> None:
        with pytest.raises(kind, match="no such thing"):
            await received(client, engine.address)
        assert engine.cancelled == []

    run(lambda message, tell: tell({"error": code, "message": "no such thing"}), use)


def test_answer_that_is_left_is_cancelled() -> None:
    def begin(message: Message, tell: Say) -> None:
        if message["op"] == "generate":
            tell({"text": "one", "log_probs": []})

    async def use(client: NativeClient, engine: Engine) -> None:
        async with aclosing(client.generate(engine.address, REQUEST)) as pieces:
            await anext(pieces)
            call = engine.heard[1]["call"]
        while not engine.cancelled:
            await asyncio.sleep(0.001)
        assert engine.cancelled == [call]

    run(begin, use)


def test_answer_at_its_end_is_not_cancelled() -> None:
    async def use(client: NativeClient, engine: Engine) -> None:
        await received(client, engine.address)
        await received(client, engine.address)
        assert engine.cancelled == []

    run(answer_two, use)


def test_calls_side_by_side_share_a_connection_and_have_each_its_own_answer() -> None:
    waiting: list[tuple[Message, Say]] = []

    def answer_in_reverse(message: Message, tell: Say) -> None:
        waiting.append((message, tell))
        if len(waiting) == 3:
            for asked, reply in reversed(waiting):
                reply({"text": str(asked["prompt"]), "log_probs": [], "finish": "stop", "usage": [1, 1, 0]})

    async def use(client: NativeClient, engine: Engine) -> None:
        answers = await asyncio.gather(*(received(client, engine.address, prompt=[number]) for number in range(3)))
        assert [first for first, _ in answers] == [
            EngineDelta(f"[{number}]", finish_reason=FinishReason.STOP) for number in range(3)
        ]
        assert len(engine.writers) == 1

    run(answer_in_reverse, use)


def test_engine_that_says_nothing_is_stalled() -> None:
    async def use(client: NativeClient, engine: Engine) -> None:
        for _ in range(2):  # and the next call has a connection of its own
            with pytest.raises(Unavailable) as refusal:
                await received(client, engine.address)
            assert refusal.value.code == "engine_stalled"
        assert len(engine.writers) == 2

    run(silent, use, stalled_s=0.05)


def test_engine_that_says_how_far_it_has_read_is_not_stalled() -> None:
    async def use(client: NativeClient, engine: Engine) -> None:
        asking = asyncio.ensure_future(received(client, engine.address))
        while len(engine.heard) < 2:
            await asyncio.sleep(0.001)
        tell = partial(answer, engine.writers[0], engine.heard[1]["call"])
        for number in range(10):
            await asyncio.sleep(0.06)
            tell({"progress": number})
        answer_two(engine.heard[1], tell)
        assert len(await asking) == 3

    run(silent, use, stalled_s=0.5)


def test_engine_that_nobody_asks_anything_may_be_silent() -> None:
    async def use(client: NativeClient, engine: Engine) -> None:
        for _ in range(3):
            assert len(await received(client, engine.address)) == 3
            await asyncio.sleep(0.4)

    run(answer_two, use, stalled_s=0.3)


@pytest.mark.parametrize("last_words", [b"", b"\xff\xff\xff\xff", encode({"call": 1, "text": "o"})[:-1]])
def test_connection_that_is_lost_ends_its_calls_and_the_next_call_makes_another(last_words: bytes) -> None:
    is_broken = True

    def hang_up(message: Message, tell: Say) -> None:
        if not is_broken:
            answer_two(message, tell)

    async def use(client: NativeClient, engine: Engine) -> None:
        nonlocal is_broken
        calls = [asyncio.ensure_future(received(client, engine.address)) for _ in range(3)]
        while len(engine.heard) < 4:
            await asyncio.sleep(0.001)
        engine.writers[0].write(last_words)
        engine.writers[0].close()
        refusals = await asyncio.gather(*calls, return_exceptions=True)
        assert [getattr(refusal, "code", refusal) for refusal in refusals] == ["engine_gone"] * 3
        is_broken = False
        assert len(await received(client, engine.address)) == 3

    run(hang_up, use)


def test_engine_that_does_not_listen_is_gone() -> None:
    async def main() -> None:
        server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()
        client = NativeClient()
        for _ in range(2):
            with pytest.raises(Unavailable) as refusal:
                await received(client, Address(f"native://127.0.0.1:{port}", {}, {"key": "k"}))
            assert refusal.value.code == "engine_gone"
        await client.close()

    asyncio.run(main())


def test_scores_of_a_prompt_are_gathered_from_all_its_pieces() -> None:
    def score(message: Message, tell: Say) -> None:
        if message["op"] == "detokenize":
            tell({"text": "first"})
            return
        tell({"scores": [[2, b"two", -1.0, [[9, b"n", -0.5]]]], "is_last": False})
        tell({"progress": 2})
        tell({"scores": [[3, b"three", -1e9, []], [None, b"", 0.0, [[4, b"four", -0.1]]]], "is_last": True})

    async def use(client: NativeClient, engine: Engine) -> None:
        scores = await client.prompt_log_probs(engine.address, [1, 2, 3], 1)
        assert [score.token for score in scores] == ["first", "two", "three", ""]
        assert [score.log_prob for score in scores[1:3]] == [-1.0, MIN_LOG_PROB]
        assert scores[3].top[0].token == "four"
        assert engine.cancelled == []

    run(score, use)
