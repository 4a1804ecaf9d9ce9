"""Fakes for tests alone: an engine that is a tiny HTTP server, and an executor whose trainer is a function."""

import base64
import json
import math
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from luthier.core.engine_ports import Address, Capacity, EngineState, ParityReport, ServedModel
from luthier.core.states import EngineName, LoadState, RunState
from luthier.core.training.executor_port import NONE_RUNNING, ONE_CPU, Ending, NodeRoom, RunNeeds
from luthier.engines.choice import ChosenEngineClient
from luthier.engines.embeddings.embedding_client import HttpEmbeddingClient
from luthier.engines.engine_client import HttpEngineClient
from luthier.engines.native.client import NativeClient
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import CheckpointSaved, Metrics, Started, Succeeded
from luthier.service.background.supervisor import Supervisor
from luthier.service.scheduling.admission import QueueLimits
from luthier.service.scheduling.engine_calls import EngineCalls
from luthier.store.db import Connection, Database

KEY = "test-key-0123456789abcdef"
BASE = "smollm2-135m-instruct"


class EchoEngine:
    """Speaks OpenAI chat on loopback; its answer repeats the request it got, so tests see what an engine is asked.

    Where `says` is set, each answer takes the next of its texts in turn, and streams it by `piece` characters; else the
    text that `script` makes of the request, unless that is None. With a
    `capacity` it has slots, and a token for each character; while `holds` is set no answer comes, and while `loads` is,
    no model is loaded. That a caller has gone is noticed after `notices_after_s`. A prompt "die" ends the connection.
    """

    def __init__(self) -> None:
        self.says: list[str] = []
        self.script: Callable[[dict[str, Any]], str | None] = lambda body: None
        self.piece = 5
        self.ends_at_once = False
        self.ends = "stop"
        self.says_nothing = False
        self.scores = True
        self.asked: list[dict[str, Any]] = []
        self._server = _EchoServer(("127.0.0.1", 0), _EchoHandler)
        self._server.echo = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.capacity: Capacity | None = None
        self.models: dict[str, ServedModel] = {}
        self.released: list[str] = []
        self.said_faults: list[str] = []
        self.busy: list[int | None] = []
        self.holds, self.loads = threading.Event(), threading.Event()
        self.notices_after_s = 0.0

    def loaded(self, model: ServedModel) -> Address | None:
        return self._address(model) if model.id in self.models else None

    def state(self, model: ServedModel) -> EngineState:
        if model.id in self.models:
            return EngineState(EngineName.NATIVE, LoadState.READY, "It is loaded.")
        return EngineState(EngineName.NATIVE, LoadState.RESTING, "It is not loaded. The next call loads it.")

    def faults(self) -> list[str]:
        return self.said_faults

    def ensure(self, model: ServedModel) -> Address:
        while self.loads.is_set():
            time.sleep(0.01)
        self.models[model.id] = model
        return self._address(model)

    def _address(self, model: ServedModel) -> Address:
        fields = {"adapter": model.id}
        at = f"http://127.0.0.1:{self._server.server_port}"
        if model.embeds:
            return Address(f"{at}/v1", {}, takes_tokens=True, capacity=self.capacity, embeds=True)
        return Address(f"{at}/v1", fields, capacity=self.capacity, scores_url=at if self.scores else None)

    def release(self, model_id: str) -> None:
        self.models.pop(model_id, None)
        self.released.append(model_id)

    @contextmanager
    def working(self, slot: int | None, connection: socket.socket) -> Iterator[bool]:
        """Whether the caller is still there once the answer may come."""
        self.busy.append(slot)
        try:
            while self.holds.is_set() and not is_closed(connection):
                time.sleep(0.01)
            yield not is_closed(connection)
        finally:
            if is_closed(connection):
                time.sleep(self.notices_after_s)
            self.busy.remove(slot)

    def next_text(self, body: dict[str, Any]) -> str | None:
        return self.says.pop(0) if self.says else self.script(body)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _EchoServer(ThreadingHTTPServer):
    echo: EchoEngine

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that closed its connection is no error here."""


class _EchoHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _EchoServer

    def do_GET(self) -> None:
        slots = [{"id": slot, "is_processing": True} for slot in self.server.echo.busy]
        self._send(200, "application/json", json.dumps(slots))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        echo = self.server.echo
        if self.path == "/apply-template":
            prompt = "".join(str(turn["content"]) for turn in body["messages"])
            self._send(200, "application/json", json.dumps({"prompt": prompt}))
            return
        if self.path == "/tokenize":
            self._send(200, "application/json", json.dumps({"tokens": [ord(letter) for letter in body["content"]]}))
            return
        echo.asked.append(body)
        with echo.working(body.get("id_slot"), self.connection) as is_awaited:
            if is_awaited:
                self._answer(body)

    def _answer(self, body: dict[str, Any]) -> None:
        echo = self.server.echo
        if self.path == "/detokenize":
            self._send(200, "application/json", json.dumps({"content": "".join(map(chr, body["tokens"]))}))
            return
        if self.path == "/v1/embeddings":
            self._embed(body["input"])
            return
        if self.path == "/prompt_logprobs":
            self._score(body["tokens"], body["top"])
            return
        if self.path == "/v1/completions":
            self._complete(body)
            return
        if body["messages"][-1]["content"] == "die":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if body["messages"][-1]["content"] == "too long":
            refusal = {"type": "exceed_context_size_error", "message": "9000 tokens, 8192 fit", "code": 400}
            self._send(400, "application/json", json.dumps({"error": refusal}))
            return
        text = echo.next_text(body)
        answer: dict[str, Any] = {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "engine's own",
            "timings": {"ms": 1},
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": text or json.dumps(body)},
                }
            ],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }
        if not body.get("stream"):
            self._send(200, "application/json", json.dumps(answer))
            return
        pieces: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None} | _log_probs(body, piece)]}
            for piece in ([] if echo.says_nothing else cut(text, echo.piece) or [json.dumps(body)])
        ]
        pieces += [
            {"choices": [{"index": 0, "delta": {}, "finish_reason": echo.ends}]},
            {"choices": [], "usage": answer["usage"]},
        ]
        shared = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "engine's own"}
        lines = [f"data: {json.dumps(shared | piece)}\n\n" for piece in pieces]
        self._send(200, "text/event-stream", "".join(lines) + "data: [DONE]\n\n")

    def _score(self, tokens: list[int], top: int) -> None:
        """The n-th token has the log-probability -n, and the likeliest of each place is "a"."""
        likeliest = [{"id": 97 + rank, "token": chr(97 + rank), "bytes": [97 + rank]} for rank in range(top)]
        ranked = [one | {"logprob": -0.25 * (rank + 1)} for rank, one in enumerate(likeliest)]
        pieces = [{"id": id, "token": chr(id), "bytes": [*chr(id).encode()]} for id in tokens]
        content = [
            piece | {"logprob": -float(place) if place else None, "top_logprobs": ranked if place else []}
            for place, piece in enumerate(pieces)
        ]
        content.append({"id": None, "logprob": None, "top_logprobs": ranked})
        self._send(200, "application/json", json.dumps({"content": content}))

    def _embed(self, inputs: list[list[int]]) -> None:
        """The vector of an input: how many ids it has, its second one, and zeros."""
        data = [
            {"index": index, "embedding": base64.b64encode(struct.pack("<4f", len(ids), ids[1], 0, 0)).decode()}
            for index, ids in enumerate(inputs)
        ]
        self._send(200, "application/json", json.dumps({"data": data[::-1]}))

    def _complete(self, body: dict[str, Any]) -> None:
        text = self.server.echo.next_text(body) or json.dumps(body)
        entry: dict[str, Any] = {"id": 1, "token": text, "bytes": [1], "logprob": -0.5}
        entry["top_logprobs"] = [{**entry, "logprob": -0.5}, {**entry, "token": "z", "logprob": None}]
        logprobs = {"content": [entry]} if "logprobs" in body else None
        choice: dict[str, Any] = {"index": 0, "finish_reason": "length", "text": text, "logprobs": logprobs}
        if self.server.echo.ends_at_once:
            text, logprobs, choice = "", None, choice | {"finish_reason": "stop"}
        answer: dict[str, Any] = {
            "id": "chatcmpl-1",
            "object": "text_completion",
            "created": 1,
            "model": "engine's own",
            "choices": [choice],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }
        if not body.get("stream"):
            self._send(200, "application/json", json.dumps(answer))
            return
        parts = cut(text, self.server.echo.piece) or [""]
        lines: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "text": part, "logprobs": None, "finish_reason": None}]} for part in parts
        ]
        lines[-1]["choices"][0]["logprobs"] = logprobs
        lines.append({"choices": [{**choice, "text": "", "logprobs": None}], "usage": answer["usage"]})
        events = "".join(f"data: {json.dumps(line)}\n\n" for line in lines)
        self._send(200, "text/event-stream", events + "data: [DONE]\n\n")

    def _send(self, status: int, kind: str, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _log_probs(body: dict[str, Any], text: str) -> dict[str, Any]:
    """Those of a streamed piece, as if it were one token; nothing if they are not asked for."""
    if not body.get("logprobs"):
        return {}
    entry = {"id": 1, "token": text, "bytes": [*text.encode()], "logprob": -0.5}
    return {"logprobs": {"content": [entry | {"top_logprobs": [entry]}]}}


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side has closed: nothing more is sent in the middle of a request."""
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable) and not connection.recv(1, socket.MSG_PEEK)


def cut(text: str | None, size: int) -> list[str]:
    return [text[at : at + size] for at in range(0, len(text), size)] if text else []


def engine_calls(limits: QueueLimits | None = None) -> EngineCalls:
    """Calls as the service makes them, to either kind of engine."""
    client = ChosenEngineClient({"native": NativeClient(), "http": HttpEngineClient()})
    return EngineCalls(client, limits, embedder=HttpEmbeddingClient())


def agreeing_parity(address: Address, folder: Path, n_probes: int | None = None) -> ParityReport:
    return ParityReport(8, 0.001, 0.0001, 0.05, True, "the fake agrees")


def failing_parity(address: Address, folder: Path, n_probes: int | None = None) -> ParityReport:
    return ParityReport(8, 2.5, 0.5, 0.05, False, "differs by 2.5 nats where 0.05 are allowed.")


class ScriptedExecutor:
    """Runs a function in the place of the trainer, at once, when a run is started; `jobs` of them may live at once."""

    def __init__(self, trainer: Callable[[RunDirectory], object], jobs: int = 1) -> None:
        self.trainer = trainer
        self.jobs = jobs
        self.started: list[Path] = []
        self.stopped: list[str] = []
        self.asked_to_stop: list[str] = []
        self.killed: list[str] = []
        self.alive: set[str] = set()
        self.endings: dict[str, Ending] = {}
        self.at: dict[Path, str] = {}

    outlives_service = False

    def room(self, running: Mapping[str, RunNeeds] = NONE_RUNNING) -> Sequence[NodeRoom]:
        own = {f"fake:{number + 1}" for number in range(len(self.started))}
        return [NodeRoom("fake", cpus=8.0, runs=max(0, self.jobs - len((own | set(running)) & self.alive)))]

    def start(self, run: Path, attempt: int = 1, needs: RunNeeds = ONE_CPU) -> str:
        self.started.append(run)
        handle = f"fake:{len(self.started)}"
        self.at[run] = handle
        self.trainer(RunDirectory(run))
        return handle

    def sync(self, run: Path, handle: str) -> None:
        """The scripted trainer works in the directory itself."""

    def discard(self, run: Path) -> None:
        """Nothing is kept elsewhere."""

    def find(self, run: Path, attempt: int = 1) -> str | None:
        handle = self.at.get(run)
        return handle if handle in self.alive else None

    def look(self, handle: str) -> RunState:
        return RunState.ALIVE if handle in self.alive else RunState.GONE

    def ending(self, handle: str) -> Ending:
        return self.endings.get(handle, Ending())

    def ask_to_stop(self, handle: str) -> None:
        self.asked_to_stop.append(handle)

    def stop(self, handle: str) -> None:
        self.stopped.append(handle)
        self.alive.discard(handle)

    def kill(self, handle: str) -> None:
        self.killed.append(handle)
        self.alive.discard(handle)


def train_well(run: RunDirectory, at: float = 1_800_000_000.0) -> None:
    """Writes what a trainer of two epochs of two steps writes; does nothing where that is written already."""
    if any(isinstance(event, Succeeded) for event, _ in run.tail()):
        return
    spec = run.read_spec()
    run.append(Started(at=at, n_steps=4, n_examples=10, n_tokens=100, supervised_tokens=40))
    run.results.write_text("step,train_loss\n")
    for step in range(1, 5):
        epoch_end = step % 2 == 0
        loss = math.exp(-step)
        full = (
            {"full_valid_loss": 0.5, "full_valid_mean_token_accuracy": 0.9} if epoch_end and spec.has_validation else {}
        )
        run.append(Metrics(at=at + step, step=step, n_steps=4, train_loss=loss, train_mean_token_accuracy=0.5, **full))
        if epoch_end:
            save_checkpoint(run, step, at + step)
    run.append(Succeeded(at=at + 5, trained_tokens=200, seconds=5.0, peak_memory_bytes=1))


def save_checkpoint(run: RunDirectory, step: int, at: float, dropped: tuple[str, ...] = ()) -> None:
    folder = run.checkpoints / f"step-{step:06d}"
    folder.mkdir(parents=True)
    for name in ("adapter_model.safetensors", "adapter_config.json", "probes.json", "meta.json"):
        (folder / name).write_text(f"{name} of step {step}")
    metrics = {"step": float(step), "train_loss": 0.1}
    run.append(CheckpointSaved(at=at, step=step, epoch=step // 2, folder=folder.name, metrics=metrics, dropped=dropped))


class Killed(BaseException):
    """What a kill is to the code that it hits: nothing that `except Exception` holds up."""


def ticked(supervisor: Supervisor, times: int) -> None:
    """Ticks so many times, for a test that expects one of them to raise."""
    for _ in range(times):
        supervisor.tick()


class MortalDatabase:
    """A database whose service dies just before or just after its k-th write."""

    def __init__(self, database: Database, write: int, when: str) -> None:
        self._database, self._left, self._when = database, write, when
        self.path, self.description = database.path, database.description
        self.cached, self.peek, self.version = database.cached, database.peek, database.version
        self.reading, self.migrate, self.is_newest = database.reading, database.migrate, database.is_newest
        self.close = database.close

    @property
    def waiting_writers(self) -> int:
        return self._database.waiting_writers

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        self._left -= 1
        if self._left == 0 and self._when == "before":
            raise Killed
        with self._database.writing() as tx:
            yield tx
        if self._left == 0:
            raise Killed
