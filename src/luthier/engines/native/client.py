"""The event loop's calls to engine processes of our own: all calls in progress to one share a connection.

Threads of the service use `protocol.BlockingConnection`; the other end is `engine_server`.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, cast

from luthier.core.engine_ports import Address, EngineRequest
from luthier.core.errors import InvalidRequest, LuthierError, Unavailable, UpstreamFailed
from luthier.core.inference.generation import MIN_LOG_PROB, EngineDelta, FinishReason, TokenLogProb, Usage
from luthier.engines.native.protocol import INVALID, Message, MessageReader, encode

SCHEME = "native"
"""Of the URLs of addresses: native://127.0.0.1:PORT."""
CONNECT_S = 10.0
STALLED_S = 120.0
"""An engine that sends nothing at all for so long, with calls in progress, is stalled."""
_RESTART_S = 5.0
_OF_ADDRESS = ("model", "adapter", "tokenizer")


class NativeClient:
    """Implements core.engine_ports.EngineClient. Lives on one event loop; a connection lasts for its calls."""

    def __init__(self, stalled_s: float = STALLED_S) -> None:
        """`stalled_s`: so many seconds without a byte from a process end the calls in progress to it."""
        self._stalled_s = stalled_s
        self._connections: dict[str, asyncio.Task[_Connection]] = {}

    async def generate(self, address: Address, request: EngineRequest) -> AsyncGenerator[EngineDelta | Usage]:
        """One answer as it is generated, with its usage. Closing the generator ends the generation.

        The request's `prompt` is token ids. Raises InvalidRequest, Unavailable and UpstreamFailed as `_Call.receive`
        does.
        """
        body = {name: value for name, value in request.items() if name not in _OF_ADDRESS}
        prompt = body.pop("prompt")
        message = {"op": "generate", "prompt": prompt, "scope": body.pop("cache_scope", ""), "request": body}
        message |= {"is_background": True} if body.pop("is_background", False) else {}
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
        """Raises UpstreamFailed always: the service renders and tokenizes for this engine (`Address.takes_tokens`)."""
        raise UpstreamFailed("engine_failed", "This engine takes prompts in tokens alone.")

    async def tokenize(self, address: Address, text: str) -> Sequence[int]:
        """Token ids of a text by the engine's tokenizer. Raises as `_Call.receive` does."""
        return cast(list[int], (await self._ask(address, {"op": "tokenize", "text": text}))["tokens"])

    async def detokenize(self, address: Address, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included. Raises as `_Call.receive` does."""
        return str((await self._ask(address, {"op": "detokenize", "tokens": list(token_ids)}))["text"])

    async def prompt_log_probs(self, address: Address, token_ids: Sequence[int], top: int) -> list[TokenLogProb]:
        """Log-probabilities of a prompt's own tokens, and what comes next.

        The first token's is MIN_LOG_PROB: it has none.
        """
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
        """No slot, ever: a call that is given up leaves the engine before its next step, so nobody need wait for it."""
        return set()

    async def close(self) -> None:
        """Closes all connections, also those that are being made; calls in progress raise Unavailable."""
        for task in self._connections.values():
            task.cancel()
        for task in self._connections.values():
            if task.done() and not task.cancelled() and task.exception() is None:
                task.result().close()
        self._connections.clear()

    async def _ask(self, address: Address, message: Message) -> Message:
        """The one answer to a call of the address's process. Raises as `_Call.receive` does."""
        async with await self._call(address, message) as call:
            return await call.receive()

    async def _call(self, address: Address, message: Message) -> "_Call":
        """Begins a call for the address's model, to be entered with `async with`. Raises Unavailable."""
        connection = await self._connection(address)
        return connection.call({**message, "model": address.fields.get("adapter")})

    async def _connection(self, address: Address) -> "_Connection":
        """The open connection to the address's process; callers who come at once share one attempt to connect.

        Forgets connections that are lost. Raises Unavailable if the process cannot be reached.
        """
        task = self._connections.get(address.url)
        if task is None or _is_lost(task):
            self._connections = {url: other for url, other in self._connections.items() if not _is_lost(other)}
            task = self._connections[address.url] = asyncio.ensure_future(_connect(address, self._stalled_s))
        try:
            return await asyncio.shield(task)
        except (OSError, TimeoutError) as error:
            raise gone() from error


def _is_lost(task: "asyncio.Task[_Connection]") -> bool:
    """Whether a connection failed or is closed; False while it is being made."""
    return task.done() and (task.cancelled() or task.exception() is not None or task.result().is_closed)


class _Call:
    """One call in progress. Left before its last message, it is cancelled in the engine."""

    def __init__(self, connection: "_Connection", number: int) -> None:
        self._connection = connection
        self._number = number
        self.received: asyncio.Queue[Message | LuthierError] = asyncio.Queue()
        self._is_over = False

    async def __aenter__(self) -> "_Call":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends the call on the connection; the engine hears of it unless its last message has come."""
        self._connection.leave(self._number, self._is_over)

    async def receive(self) -> Message:
        """The engine's next message about this call; messages that only report progress are skipped.

        Raises InvalidRequest for what the engine refuses (the caller's fault), Unavailable if it is gone, stalled or
        lacks the adapter, UpstreamFailed for an error of its own.
        """
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
    """A connection to one engine process with the calls in progress on it; it closes itself behind the last of them.

    A task reads the messages and puts each into the queue of its call.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stalled_s: float) -> None:
        """Starts the reading task on the running event loop."""
        self._writer = writer
        self._stalled_s = stalled_s
        self._calls: dict[int, _Call] = {}
        self._numbers = itertools.count(1)
        self.is_closed = False
        self._limit: asyncio.Timeout | None = None
        self._reading = asyncio.ensure_future(self._read(reader))

    def call(self, message: Mapping[str, Any]) -> _Call:
        """Begins a call: sends the message under a new number. Raises Unavailable if the connection is lost."""
        if self.is_closed:
            raise gone()
        if not self._calls and self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time() + self._stalled_s)
        number = next(self._numbers)
        call = self._calls[number] = _Call(self, number)
        self._writer.write(encode({**message, "call": number}))
        return call

    def leave(self, number: int, is_over: bool) -> None:
        """Ends a call, in the engine too unless it `is_over`; behind the last one the connection is closed."""
        self._calls.pop(number, None)
        if self.is_closed:
            return
        if not is_over:
            self._writer.write(encode({"op": "cancel", "call": number}))
        if not self._calls:
            self.close()

    def close(self) -> None:
        """Closes the connection; the reading task, which is cancelled, has all calls in progress raise Unavailable."""
        self.is_closed = True
        self._reading.cancel()
        self._writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        """The reading task: gives each message to its call until the connection ends, then all calls an error.

        It ends the connection itself if nothing comes for `stalled_s` while there are calls, and for what is no
        message.
        """
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
    """Connects to the port in the address's URL and sends the process's key.

    Raises OSError and, after 10 s, TimeoutError.
    """
    port = int(address.url.rsplit(":", 1)[1])
    async with asyncio.timeout(CONNECT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(encode({"key": address.headers["key"]}))
    return _Connection(reader, writer, stalled_s)


def _log_prob(entry: Sequence[Any]) -> TokenLogProb:
    """An entry of the engine (id, bytes, log-probability, likeliest tokens) as a value, nothing below MIN_LOG_PROB.

    An id of None, behind the prompt's last token, has no text.
    """
    id, data, log_prob, top = entry
    alternatives = [TokenLogProb(_text(piece), [*piece], max(value, MIN_LOG_PROB)) for _, piece, value in top]
    return TokenLogProb("" if id is None else _text(data), [*data], max(log_prob, MIN_LOG_PROB), alternatives)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def gone() -> Unavailable:
    """The error for a process that has ended or cannot be reached: the caller may ask again soon."""
    return Unavailable(
        "engine_gone",
        "The engine that serves this model ended in the middle of the call. Ask again: it starts anew.",
        retry_after_s=_RESTART_S,
    )


def _stalled() -> Unavailable:
    """The error for a process that sends nothing: the caller may ask again, for a stuck one is started anew."""
    return Unavailable(
        "engine_stalled",
        "The engine that serves this model stopped answering in the middle of the call. Ask again: one that is stuck "
        "is started anew.",
        retry_after_s=_RESTART_S,
    )


def _error_of(message: Message) -> LuthierError:
    """The engine's error message as an error of ours, which the caller raises.

    Unavailable for an adapter that is not loaded, InvalidRequest for a fault of the request, else UpstreamFailed.
    """
    code, text = message["error"], message["message"]
    if code == "model_not_loaded":
        return Unavailable(code, text, retry_after_s=1.0)
    if code == INVALID:
        return InvalidRequest(code, text)
    return UpstreamFailed(code, text)
