"""The engine process: one base model, any number of adapters, loaded and unloaded while it answers.

`python -m luthier.engines.native.engine_server CONFIG.json`, started by `native_process`. It writes one JSON line to
stdout (its port, or why it cannot start) and serves until stdin closes: the parent holds the other end, so that a
parent killed by SIGKILL takes its engines with it.
"""

import asyncio
import hmac
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from luthier.core.errors import InvalidRequest, LuthierError
from luthier.engines import child_process
from luthier.engines.native.decoder.library import NO_ADAPTER
from luthier.engines.native.decoder.model_config import Unsupported
from luthier.engines.native.loaded_model import LoadedModel
from luthier.engines.native.protocol import INVALID, Message, MessageReader, encode
from luthier.engines.native.steps.answer_text import AnswerText
from luthier.engines.native.steps.sampling import Sampler, SamplingParameters
from luthier.engines.native.steps.scheduler import Scheduler
from luthier.engines.native.steps.sequences import Sequence
from luthier.process import logs

logger = logging.getLogger("luthier.engines.native.engine_server")

_READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Config:
    """What one engine process serves, as its parent writes it into config.json.

    `base_folder` is in Hugging Face layout; `context_tokens` is what its sequences share. `key` opens connections.
    """

    base_folder: str
    context_tokens: int
    sequences: int
    threads: int
    key: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class _Connection:
    """A connection of the service, on the event loop; `_calls` are those in progress, each with the scheduler's number.

    The decoder's thread reaches it through `EngineServer._emit` alone.
    """

    def __init__(self, server: "EngineServer", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._calls: dict[int, int] = {}
        self._is_open = True

    async def serve(self) -> None:
        """Handles messages until the connection ends, which cancels its calls. The first message must bear the key."""
        messages = MessageReader()
        is_known = False
        try:
            while data := await self._reader.read(_READ_BYTES):
                for message in messages.feed(data):
                    if not is_known:
                        if not hmac.compare_digest(str(message.get("key")).encode(), self._server.key.encode()):
                            return
                        is_known = True
                        continue
                    self._handle(message)
        except (ConnectionError, ValueError):
            logger.warning("connection lost or not understood")
        finally:
            self._is_open = False
            for unique in self._calls.values():
                self._server.scheduler.cancel(unique)
            self._writer.close()

    def write(self, data: bytes) -> None:
        """Sends bytes; after the connection's end they are dropped."""
        if self._is_open:
            self._writer.write(data)

    def _handle(self, message: Message) -> None:
        """Handles one message of the service; an error is the answer to its call, an unforeseen one is logged too."""
        call, op = message["call"], message["op"]
        if op == "cancel":
            if (unique := self._calls.pop(call, None)) is not None:
                self._server.scheduler.cancel(unique)
            return
        try:
            self._server.handle(op, message, self, self._calls)
        except InvalidRequest as error:
            self.forget(call)
            self.write(encode({"call": call, "error": INVALID, "message": error.message}))
        except LuthierError as error:
            self.forget(call)
            self.write(encode({"call": call, "error": error.code, "message": error.message}))
        except Exception as error:
            self.forget(call)
            logger.exception("call failed op=%s", op)
            text = f"The engine failed ({type(error).__name__})."
            self.write(encode({"call": call, "error": "engine_failed", "message": text}))

    def forget(self, call: int) -> None:
        """Notes that a call is over: the end of the connection does not cancel it."""
        self._calls.pop(call, None)


class EngineServer:
    """The calls of all connections, and the scheduler that computes them.

    On the event loop but where it says otherwise.
    """

    def __init__(self, config: Config, model: LoadedModel) -> None:
        self.key = config.key
        self.scheduler = Scheduler(model.decoder, model.vocabulary, config.sequences, model.adapter)
        self._model = model
        self._loop: asyncio.AbstractEventLoop | None = None
        self._n_calls = 0
        self._emitted: list[tuple[_Connection, Message]] = []

    async def run(self, reply: Callable[..., None]) -> None:
        """Starts the decoder's thread, listens on a free loopback port, tells the parent by `reply`, and serves."""
        self._loop = asyncio.get_running_loop()
        self.scheduler.on_step = self._flush
        self.scheduler.start()
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        reply(port=server.sockets[0].getsockname()[1], **self._model.properties())
        await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _Connection(self, reader, writer).serve()

    def handle(self, op: str, message: Message, connection: _Connection, calls: dict[int, int]) -> None:
        """Begins a call: answers at once, or hands it to the decoder's thread; `calls` gets what can be cancelled.

        Raises LuthierError for what the caller is told, ValueError for an unknown op.
        """
        call = message["call"]
        match op:
            case "generate" | "score":
                self._n_calls += 1
                calls[call] = self._n_calls
                emit = partial(self._emit, connection, call)
                make = self._answer if op == "generate" else self._scores
                self.scheduler.submit(make(message, self._n_calls, emit))
            case "load":
                order = partial(self._load, connection, call, message["model"], Path(message["folder"]))
                self.scheduler.run_between_steps(order)
            case "unload":
                self.scheduler.run_between_steps(partial(self._unload, connection, call, message["model"]))
            case "tokenize":
                connection.write(encode({"call": call, "tokens": self._model.token_ids(message["text"])}))
            case "detokenize":
                connection.write(encode({"call": call, "text": self._model.text(message["tokens"])}))
            case "ping":
                state = {"steps": self.scheduler.n_steps, "is_busy": self.scheduler.is_busy}
                connection.write(encode({"call": call, **state}))
            case _:
                raise ValueError(f"unknown op {op}")

    def _answer(self, message: Message, unique: int, emit: Callable[[Message], None]) -> Sequence:
        """The sequence of a `generate` call.

        Raises InvalidRequest for a prompt, a bias or a grammar that cannot be used.
        """
        parameters = SamplingParameters.of_request(message["request"])
        sequence = self._sequence(message, unique, emit, parameters.max_tokens)
        model = self._model
        sequence.parameters = parameters
        sequence.is_background = bool(message.get("is_background"))
        model.check_biases(parameters.logit_bias)
        try:
            n_vocabulary, end_ids = model.decoder.shape.vocabulary, model.vocabulary.end_ids
            sequence.sampler = Sampler(parameters, model.grammar_tokenizer, n_vocabulary, end_ids)
        except ValueError as error:
            raise InvalidRequest(INVALID, f"{error}.") from None
        sequence.text = AnswerText(parameters.stops)
        return sequence

    def _scores(self, message: Message, unique: int, emit: Callable[[Message], None]) -> Sequence:
        """The sequence of a `score` call: no answer, only log-probabilities. Raises InvalidRequest for a bad prompt."""
        sequence = self._sequence(message, unique, emit, 0)
        sequence.n_scored = int(message["top"])
        sequence.n_scored_rows = int(message.get("rows", sequence.n_prompt))
        return sequence

    def _sequence(self, message: Message, unique: int, emit: Callable[[Message], None], n_more: int) -> Sequence:
        """A sequence with its prompt and room for `n_more` tokens.

        Raises InvalidRequest for a prompt that cannot be computed.
        """
        prompt, model = message["prompt"], message["model"]
        tokens = np.zeros(len(prompt) + n_more, np.int32)
        tokens[: len(prompt)] = prompt
        self._model.check(prompt, n_more)
        scope = f"{message.get('scope')}\0{model}"
        n = len(prompt)
        return Sequence(unique, emit, tokens, n, NO_ADAPTER, model, scope, None, None, n_tokens=n)

    def _load(self, connection: _Connection, call: int, model: str, folder: Path) -> None:
        """On the decoder's thread, between two steps: loads an adapter and emits that, or the error. Raises nothing."""
        try:
            self._model.load(model, folder)
            self._emit(connection, call, {"is_loaded": True})
        except LuthierError as error:
            self._emit(connection, call, {"error": error.code, "message": error.message})
        except Exception as error:
            logger.exception("adapter not loaded")
            text = f"The adapter could not be loaded ({type(error).__name__})."
            self._emit(connection, call, {"error": "engine_failed", "message": text})

    def _unload(self, connection: _Connection, call: int, model: str) -> None:
        """On the decoder's thread, between two steps: unloads an adapter unless it is in use; emits `is_loaded`."""
        if self.scheduler.uses(model):  # its answers end first
            self._emit(connection, call, {"is_loaded": True})
            return
        self._model.unload(model)
        self._emit(connection, call, {"is_loaded": False})

    def _emit(self, connection: _Connection, call: int, message: Message) -> None:
        """On the decoder's thread: kept until the step ends, then sent in one go."""
        self._emitted.append((connection, {"call": call, **message}))

    def _flush(self) -> None:
        """On the decoder's thread, behind each step: hands what was emitted to the event loop."""
        if self._emitted:
            assert self._loop is not None
            emitted, self._emitted = self._emitted, []
            self._loop.call_soon_threadsafe(self._send, emitted)

    @staticmethod
    def _send(emitted: list[tuple[_Connection, Message]]) -> None:
        """Sends the messages, each connection's in one go, and forgets the calls that they end."""
        by_connection: dict[_Connection, list[Message]] = {}
        for connection, message in emitted:
            by_connection.setdefault(connection, []).append(message)
            if "finish" in message or "error" in message or message.get("is_last"):
                connection.forget(message["call"])
        for connection, messages in by_connection.items():
            connection.write(encode(*messages))


def main(config_path: Path) -> None:
    """Loads the model and serves it until the process ends; if that cannot be loaded, tells the parent and returns."""
    config = Config(**json.loads(config_path.read_bytes()))
    reply = child_process.reply_pipe()
    child_process.end_with_parent()
    try:
        model = LoadedModel(Path(config.base_folder), config.context_tokens, config.threads)
    except (Unsupported, OSError, MemoryError, KeyError, ValueError) as error:
        logger.error("model not loaded: %s", error)
        # The text of an OSError may name a path.
        why = str(error) if isinstance(error, Unsupported) else type(error).__name__
        reply(code="engine_failed", message=f"The engine cannot load this model: {why}.")
        return
    asyncio.run(EngineServer(config, model).run(reply))


if __name__ == "__main__":
    logs.configure(logging.WARNING)
    main(Path(sys.argv[1]))
