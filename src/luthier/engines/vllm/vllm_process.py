"""One process of vLLM as its parent sees it: how it is started, takes adapters, and is looked at."""

import itertools
import os
import secrets
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from luthier.core.engine_ports import Address, Capacity, ServedModel
from luthier.core.errors import Unavailable
from luthier.engines import child_process
from luthier.engines.child_process import ChildProcess
from luthier.engines.native.decoder.model_config import hf_folder
from luthier.engines.remote.completions_server import CompletionsServer
from luthier.engines.vllm.vllm_server import Config
from luthier.engines.watchdog import Look

_MODULE = "luthier.engines.vllm.vllm_server"


@dataclass(frozen=True, slots=True)
class Launch:
    """How processes are started: `command` is vLLM's program and options, `timeout_s` is for one to load its model.

    `slots` answers are asked for at once, each of `context_tokens` with its prompt at most.
    """

    command: tuple[str, ...]
    context_tokens: int
    slots: int
    timeout_s: float

    @property
    def dtype(self) -> str:
        """What vLLM computes in: bfloat16 unless an option says float32."""
        given = [value for name, value in itertools.pairwise(self.command) if name == "--dtype"]
        return "float32" if given[-1:] in (["float32"], ["float"]) else "bfloat16"


class VllmProcess(ChildProcess):
    """A vLLM server with a base model and the adapters that it was given. Implements hot_loading.HotLoadingProcess."""

    def __init__(self, process: "subprocess.Popen[bytes]", launch: Launch, folder: Path, base: ServedModel) -> None:
        """The server is known once `await_ready` has returned."""
        super().__init__(process, folder, base)
        self._launch = launch
        self._server = CompletionsServer("", "")
        self._names: dict[str, str] = {}

    def await_ready(self, key: str) -> None:
        """Waits until vLLM answers. Raises Unavailable when it ends, or takes too long."""
        port = self.await_line(self._launch.timeout_s)["port"]
        tokens, slots = self._launch.context_tokens, self._launch.slots
        name = f"vllm {self._base.base_folder.absolute()}"
        capacity = Capacity(name, slots, tokens * slots, tokens, takes_turns=True)
        self._server = CompletionsServer(f"http://127.0.0.1:{port}/v1", key, capacity)

    def serves(self, model: ServedModel) -> bool:
        """Whether the process lives and has the model's adapter."""
        return self.exit_status() is None and (model.adapter_folder is None or model.id in self._names)

    def address(self, model: ServedModel) -> Address:
        """Where the model answers, by the name that vLLM has for it."""
        name = self._base.base_model if model.adapter_folder is None else self._names[model.id]
        return self._server.address(model, name, self._base.base_model, is_vllm=True, dtype=self._launch.dtype)

    def load(self, model: ServedModel) -> None:
        """Has vLLM load the model's adapter, if it has one. Raises Unavailable."""
        if model.adapter_folder is not None and model.id not in self._names:
            self._names[model.id] = self._server.load_adapter(model.adapter_folder)

    def unload(self, model_id: str) -> bool:
        """Has vLLM forget an adapter, unless a copy of the model has it too; False while anything is computed."""
        if not self.is_idle():
            return False
        name = self._names.pop(model_id, None)
        if name is not None and name not in self._names.values():
            self._server.unload_adapter(name)
        return True

    def is_idle(self) -> bool:
        """Whether it computes nothing; a process that is gone is idle, one that does not say is not."""
        return self.exit_status() is not None or self._server.n_requests() == 0

    def look(self, loop_too: bool) -> Look:
        """Whether the process runs and answers; whether its loop moves is vLLM's own health check."""
        return Look(True, False) if self.is_stopped() else Look(False, self._server.is_healthy(), True)

    def kill(self) -> None:
        """Ends vLLM with its workers in the middle of whatever they do; returns when our own child is gone."""
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        super().kill()


def start(launch: Launch, folder: Path, model: ServedModel) -> VllmProcess:
    """Starts vLLM for a model's base, and returns it once it answers, without the model's adapter.

    Raises Unavailable; the process is ended then, and its log stays.
    """
    hf = hf_folder(model.base_folder)
    if not hf.weights.exists():
        raise child_process.incomplete(model)
    key = secrets.token_hex(16)
    config = Config(launch.command, str(hf.path.absolute()), model.base_model, key)
    own = {name: value for name, value in os.environ.items() if name.startswith("VLLM_")}
    process = VllmProcess(
        child_process.spawn(sys.executable, _MODULE, folder, config.to_json(), own), launch, folder, model
    )
    try:
        process.await_ready(key)
    except Unavailable:
        process.kill()
        process.abandon()
        raise
    return process
