"""Calls to engine processes of our own: all calls in progress to one share a connection."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, cast

from luthier.core.errors import InvalidRequest, LuthierError, Unavailable, UpstreamFailed
from luthier.core.generation import MIN_LOG_PROB, EngineDelta, FinishReason, TokenLogProb, Usage
from luthier.core.ports import Address, EngineRequest
from luthier.engines.native.protocol import INVALID, Message, MessageReader, encode

SCHEME = "native"
"""Of the URLs of addresses: native://127.0.0.1:PORT."""
CONNECT_S = 10.0
STALLED_S = 120.0
"""An engine that sends nothing at all for so long, with calls in progress, is stalled."""
_RESTART_S = 5.0
_OF_ADDRESS = ("model", "adapter", "tokenizer")


class NativeClient:
    """Implements core.ports.EngineClient. Lives on one event loop; a connection lasts as long as it has calls."""

    def __init__(self, stalled_s: float = STALLED_S) -> None:
        self._stalled_s = stalled_s
        self._connections: dict[str, asyncio.Task[_Connection]] = {}

    async def generate(self, address: Address, request: EngineRequest) -> AsyncGenerator[EngineDelta | Usage]:
        """One answer as it is generated, with its usage. Closing the generator ends the generation."""
        body = {name: value for name, value in request.items() if name not in _OF_ADDRESS}
        prompt = body.pop("prompt")
        message = {"op": "generate", "prompt": prompt, "scope": body.pop("cache_scope", ""), "request": body}
        async with await self._call(address, message) as call:
            while True:
                received = await call.receive()
                reason = received.get("finish")
                log_probs = [_log_prob(entry) for entry in received["log_probs"]]
                wanted = log_probs if body.get("logprobs") is not None else None
                yield EngineDelta(received["text"], (), wanted, None if reason is None else FinishReason(reason))
                if reason is not None:
                    yield Usage(*received["usage"])
                    return

    async def render(self, address: Address, request: EngineRequest) -> str:
        raise UpstreamFailed("engine_failed", "This engine takes prompts in tokens alone.")

    async def tokenize(self, address: Address, text: str) -> Sequence[int]:
        return cast(list[int], (await self._ask(address, {"op": "tokenize", "text": text}))["tokens"])

    async def detokenize(self, address: Address, token_ids: Sequence[int]) -> str:
        return str((await self._ask(address, {"op": "detokenize", "tokens": list(token_ids)}))["text"])

    async def prompt_log_probs(self, address: Address, token_ids: Sequence[int], top: int) -> list[TokenLogProb]:
        message = {"op": "score", "prompt": list(token_ids), "top": top}
        entries: list[TokenLogProb] = []
        async with await self._call(address, message) as call:
            while True:
                received = await call.receive()
                entries += map(_log_prob, received["scores"])
                if received["is_last"]:
                    break
        text = await self.detokenize(address, token_ids[:1])
        return [TokenLogProb(text, [*text.encode()], MIN_LOG_PROB), *entries]

    async def busy_slots(self, address: Address) -> set[int] | None:
        """None: a call that is given up is out of the engine before its next step."""
        return set()

    async def close(self) -> None:
        """Closes the connections."""
        for task in self._connections.values():
            task.cancel()
        for task in self._connections.values():
            if task.done() and not task.cancelled() and task.exception() is None:
                task.result().close()
        self._connections.clear()

    async def _ask(self, address: Address, message: Message) -> Message:
        async with await self._call(address, message) as call:
            return await call.receive()

    async def _call(self, address: Address, message: Message) -> "_Call":
        connection = await self._connection(address)
        return connection.call({**message, "model": address.fields.get("adapter")})

    async def _connection(self, address: Address) -> "_Connection":
        task = self._connections.get(address.url)
        if task is None or _is_lost(task):
            self._connections = {url: other for url, other in self._connections.items() if not _is_lost(other)}
            task = self._connections[address.url] = asyncio.ensure_future(_connect(address, self._stalled_s))
        try:
            return await asyncio.shield(task)
        except (OSError, TimeoutError) as error:
            raise gone() from error


def _is_lost(task: "asyncio.Task[_Connection]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None or task.result().is_closed)


class _Call:
    """One call in progress. Left before its end, it is cancelled in the engine."""

    def __init__(self, connection: "_Connection", number: int) -> None:
        self._connection = connection
        self._number = number
        self.received: asyncio.Queue[Message | LuthierError] = asyncio.Queue()
        self._is_over = False

    async def __aenter__(self) -> "_Call":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connection.leave(self._number, self._is_over)

    async def receive(self) -> Message:
        """The engine's next message about it. Raises InvalidRequest, Unavailable and UpstreamFailed."""
        message = await self.received.get()
        while not isinstance(message, LuthierError) and "progress" in message:  # it only says that the engine is alive
            message = await self.received.get()
        if isinstance(message, LuthierError):
            self._is_over = True
            raise message
        self._is_over = bool("finish" in message or "error" in message or message.get("is_last"))
        if "error" in message:
            raise _error_of(message)
        return message


class _Connection:
    """A connection to one engine process, with the calls in progress on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stalled_s: float) -> None:
        self._writer = writer
        self._stalled_s = stalled_s
        self._calls: dict[int, _Call] = {}
        self._numbers = itertools.count(1)
        self.is_closed = False
        self._limit: asyncio.Timeout | None = None
        self._reading = asyncio.ensure_future(self._read(reader))

    def call(self, message: Mapping[str, Any]) -> _Call:
        """Begins a call. Raises Unavailable if the connection is lost."""
        if self.is_closed:
            raise gone()
        if not self._calls and self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time() + self._stalled_s)
        number = next(self._numbers)
        call = self._calls[number] = _Call(self, number)
        self._writer.write(encode({**message, "call": number}))
        return call

    def leave(self, number: int, is_over: bool) -> None:
        """Ends a call; behind the last one the connection is closed, which cancels what is not over."""
        self._calls.pop(number, None)
        if self.is_closed:
            return
        if not is_over:
            self._writer.write(encode({"op": "cancel", "call": number}))
        if not self._calls:
            self.close()

    def close(self) -> None:
        self.is_closed = True
        self._reading.cancel()
        self._writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        messages = MessageReader()
        error: LuthierError = gone()
        try:
            while True:
                async with asyncio.timeout(self._stalled_s if self._calls else None) as self._limit:
                    data = await reader.read(1 << 16)
                if not data:
                    return
                for message in messages.feed(data):
                    call = self._calls.get(message["call"])
                    if call is not None:
                        call.received.put_nowait(message)
        except TimeoutError:
            error = _stalled()
        except (OSError, ValueError):
            pass
        finally:
            self.is_closed = True
            for call in self._calls.values():
                call.received.put_nowait(error)
            self._writer.close()


async def _connect(address: Address, stalled_s: float) -> _Connection:
    port = int(address.url.rsplit(":", 1)[1])
    async with asyncio.timeout(CONNECT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(encode({"key": address.headers["key"]}))
    return _Connection(reader, writer, stalled_s)


def _log_prob(entry: Sequence[Any]) -> TokenLogProb:
    id, data, log_prob, top = entry
    alternatives = [TokenLogProb(_text(piece), [*piece], max(value, MIN_LOG_PROB)) for _, piece, value in top]
    return TokenLogProb("" if id is None else _text(data), [*data], max(log_prob, MIN_LOG_PROB), alternatives)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def gone() -> Unavailable:
    return Unavailable(
        "engine_gone",
        "The engine that serves this model ended in the middle of the call. Ask again: it starts anew.",
        retry_after_s=_RESTART_S,
    )


def _stalled() -> Unavailable:
    return Unavailable(
        "engine_stalled",
        "The engine that serves this model stopped answering in the middle of the call. Ask again: one that is stuck "
        "is started anew.",
        retry_after_s=_RESTART_S,
    )


def _error_of(message: Message) -> LuthierError:
    code, text = message["error"], message["message"]
    if code == "model_not_loaded":
        return Unavailable(code, text, retry_after_s=1.0)
    if code == INVALID:
        return InvalidRequest(code, text)
    return UpstreamFailed(code, text)
