"""A process of our own engine as its parent sees it: start, adapters that come and go, a look at its health, end."""

import logging
import secrets
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.core.engine_ports import Address, Capacity, ServedModel
from luthier.core.errors import Unavailable
from luthier.engines import child_process
from luthier.engines.child_process import ChildProcess
from luthier.engines.native.client import SCHEME
from luthier.engines.native.decoder.model_config import hf_folder
from luthier.engines.native.engine_server import Config
from luthier.engines.native.protocol import BlockingConnection, Message
from luthier.engines.watchdog import Look

logger = logging.getLogger(__name__)

_MODULE = "luthier.engines.native.engine_server"
_PROBES_SHARE = 32
"""One in so many tokens of the context is for parity probes: they stand in no queue."""
_LOAD_TIMEOUT_S = 120.0
_LOOK_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class Launch:
    """How processes are started, the same for every base; `timeout_s` is for one to load its model.

    `context_tokens` is what the `sequences` that it computes at a time share.
    """

    python: str
    context_tokens: int
    sequences: int
    threads: int
    timeout_s: float


class EngineProcess(ChildProcess):
    """A process with a base model and the adapters that it has loaded. Implements engines.process_per_base.Process.

    Its methods that ask the process wait for the answer; they are for threads, not for the event loop.
    """

    def __init__(
        self, process: "subprocess.Popen[bytes]", launch: Launch, folder: Path, key: str, base: ServedModel
    ) -> None:
        """`key` opens connections to the process; port and capacity come with `await_ready`."""
        super().__init__(process, folder, base)
        self._launch = launch
        self._key = key
        self._port = 0
        self._capacity: Capacity | None = None
        self._loaded: set[str] = set()
        self._steps = -1

    def serves(self, model: ServedModel) -> bool:
        """Whether the process lives and has the model's adapter."""
        return self.exit_status() is None and (model.adapter_folder is None or model.id in self._loaded)

    def address(self, model: ServedModel) -> Address:
        """Where the model answers, with the process's key; the folder `tokenizer` is for those who make its tokens."""
        adapter = None if model.adapter_folder is None else model.id
        fields: Mapping[str, object] = {"adapter": adapter, "tokenizer": str(hf_folder(self._base.base_folder).path)}
        url = f"{SCHEME}://127.0.0.1:{self._port}"
        return Address(url, fields, {"key": self._key}, takes_tokens=True, capacity=self._capacity)

    def await_ready(self, timeout_s: float) -> None:
        """Waits for the process's line, which gives its port and capacity.

        Raises Unavailable when it says no, ends, or takes too long.
        """
        answer = self.await_line(timeout_s)
        self._port = answer["port"]
        tokens = self._launch.context_tokens - self._launch.context_tokens // _PROBES_SHARE
        window = min(int(answer["window_tokens"]), tokens)
        name = str(self._base.base_folder.absolute())
        self._capacity = Capacity(name, self._launch.sequences, tokens, window, takes_turns=True)

    def load(self, model: ServedModel) -> None:
        """Has the process load the model's adapter, if it has one; waits for up to two minutes. Raises Unavailable."""
        if model.adapter_folder is None or model.id in self._loaded:
            return
        message = {"op": "load", "model": model.id, "folder": str(model.adapter_folder.absolute())}
        answer = self._ask(message, _LOAD_TIMEOUT_S)
        if answer is None:
            raise self.failed("does not load the adapter")
        if "error" in answer:
            raise Unavailable(answer["error"], answer["message"])
        self._loaded.add(model.id)

    def unload(self, model_id: str) -> bool:
        """Has the process forget an adapter; False while sequences of it are in progress.

        True also if the process does not answer: the adapter counts as unloaded then.
        """
        answer = self._ask({"op": "unload", "model": model_id}, _LOAD_TIMEOUT_S)
        if answer is not None and answer.get("is_loaded") is not False:
            return False
        self._loaded.discard(model_id)
        return True

    def is_idle(self) -> bool:
        """Whether it computes nothing; a process that is gone is idle."""
        answer = self._ask({"op": "ping"}, child_process.END_TIMEOUT_S)
        return self.exit_status() is not None if answer is None else not answer["is_busy"]

    def look(self, loop_too: bool) -> Look:
        """Whether the process runs, answers, and with `loop_too` whether the loop that computes does."""
        if self.is_stopped():
            return Look(True, False)
        answer = self._ask({"op": "ping"}, _LOOK_TIMEOUT_S)
        if answer is None:
            return Look(False, False)
        moves = not answer["is_busy"] or answer["steps"] != self._steps
        self._steps = answer["steps"]
        return Look(False, True, moves if loop_too else True if moves else None)

    def _ask(self, message: Message, timeout_s: float) -> dict[str, Any] | None:
        """The answer to a call, on a connection of its own; a refusal is one too, with `error` and `message`.

        None if the process is gone, does not answer in time, or answers what is no message.
        """
        try:
            with BlockingConnection(self._port, self._key, timeout_s) as connection:
                connection.send({**message, "call": 1})
                return connection.receive()
        except (OSError, ValueError):
            return None


def start(launch: Launch, folder: Path, model: ServedModel) -> EngineProcess:
    """Starts a process for a model's base, and returns it once that is loaded, without the model's adapter.

    Raises Unavailable; the process is ended then, and its log stays.
    """
    hf = hf_folder(model.base_folder)
    if not hf.weights.exists():
        raise child_process.incomplete(model)
    key = secrets.token_hex(16)
    config = Config(str(hf.path.absolute()), launch.context_tokens, launch.sequences, launch.threads, key)
    process = child_process.spawn(launch.python, _MODULE, folder, config.to_json(), {})
    engine = EngineProcess(process, launch, folder, key, model)
    try:
        engine.await_ready(launch.timeout_s)
    except Unavailable:
        engine.kill()
        engine.abandon()
        raise
    return engine
