"""One llama.cpp process as its parent sees it: start, proof that it answers, idleness, end."""

import logging
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from luthier.core.engine_ports import Address, Capacity, ServedModel
from luthier.core.errors import Unavailable
from luthier.engines import child_process
from luthier.engines.child_process import ChildProcess
from luthier.engines.llamacpp.server import Config
from luthier.engines.watchdog import Look
from luthier.model_folder import BaseModelFolder, CheckpointFolder

logger = logging.getLogger(__name__)

LOG = child_process.LOG
_MODULE = "luthier.engines.llamacpp.server"
_PROOF_TIMEOUT_S = 120.0
# llama.cpp cuts the distribution by defaults of its own; OpenAI's wire knows temperature, top_p and penalties alone.
_PLAIN_SAMPLING = {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0}
# A word to the caller after each batch of the prompt: writing it is how the server notices that the caller has gone.
_PROGRESS = {"return_progress": True}
_LOOK_TIMEOUT_S = 2.0
_PROBES_SHARE = 32
"""One in so many tokens of the context is for parity probes: they stand in no queue."""
_NO_KEPT = httpx2.Limits(max_keepalive_connections=0)
_SLEEP_WHEN_WAITING = {"OMP_WAIT_POLICY": "passive"}
"""Threads that spin while they wait for one another collapse (60 -> 1 token/s) as soon as anything else computes on
the machine, a training run for example; asleep they lose a part of their speed on an idle one (docs/serving.md)."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How processes are started, the same for every base; `timeout_s` is for one to load its models.

    `context_tokens` is what its `slots` share.
    """

    python: str
    context_tokens: int
    slots: int
    threads: int
    timeout_s: float


class EngineProcess(ChildProcess):
    """A llama.cpp server with a list of models that never changes: llama.cpp loads adapters at its start only.

    Implements engines.process_per_base.Process. The models share a base, the first one's.
    """

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        launch: Launch,
        folder: Path,
        key: str,
        models: Sequence[ServedModel],
    ) -> None:
        """`models` are in the order of the configuration: the server knows an adapter by its place among them."""
        super().__init__(process, folder, models[0])
        self._launch = launch
        self._models = {model.id: model for model in models}
        self._adapters = [model.id for model in models if model.adapter_folder]
        self._headers = {"Authorization": f"Bearer {key}"}
        self._url = self._scores_url = ""
        self._renders_tools = False
        self._capacity: Capacity | None = None
        self._http = httpx2.Client(
            headers=self._headers, trust_env=False, transport=httpx2.HTTPTransport(verify=False, limits=_NO_KEPT)
        )

    def serves(self, model: ServedModel) -> bool:
        """Whether an address for the model can be given: a live process serves its base without asking for it."""
        known = model.adapter_folder is None or self._models.get(model.id) == model
        return known and self.exit_status() is None

    def address(self, model: ServedModel) -> Address:
        """Where the model answers, with the server's key and the scale of each adapter.

        Every adapter is named: one that a request leaves out keeps the scale it happens to have.
        """
        scales = [
            {"id": place, "scale": 1.0 if model.adapter_folder and id == model.id else 0.0}
            for place, id in enumerate(self._adapters)
        ]
        fields = {"lora": scales, **_PLAIN_SAMPLING, **_PROGRESS}
        return Address(
            f"{self._url}/v1",
            fields,
            self._headers,
            renders_tools=self._renders_tools,
            capacity=self._capacity,
            scores_url=self._scores_url,
        )

    def await_ready(self, timeout_s: float) -> None:
        """Waits for the process's line, which gives its URLs.

        Raises Unavailable when it says no, ends, or takes too long.
        """
        answer = self.await_line(timeout_s)
        self._url, self._scores_url = answer["url"], answer["scores_url"]

    def prove(self, model: ServedModel) -> None:
        """Has one token computed by the model, then reads capacity and abilities. Raises Unavailable where that fails.

        Status replies are no proof: the server's "success" for an adapter that it never loaded is one of its traps.
        """
        try:
            loaded = self._get("/lora-adapters", _PROOF_TIMEOUT_S)
            if [adapter["scale"] for adapter in loaded] != [0.0] * len(self._adapters):
                raise self._unproven("did not load its adapters at scale 0")
            question = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1, "temperature": 0}
            body = {**question, **self.address(model).fields}
            reply = self._http.post(f"{self._url}/v1/chat/completions", json=body, timeout=_PROOF_TIMEOUT_S)
            if reply.status_code != 200 or reply.json()["usage"]["completion_tokens"] != 1:
                raise self._unproven(f"does not answer with {model.id} (HTTP {reply.status_code})")
            properties = self._get("/props", _PROOF_TIMEOUT_S)
            can = properties["chat_template_caps"]
            self._renders_tools = can["supports_tools"] and can["supports_tool_calls"]
            self._capacity = self._capacity_of(properties)
        except httpx2.HTTPError as error:
            raise self._unproven("does not answer") from error

    def is_idle(self) -> bool:
        """Whether no slot works on a request; one that is gone is idle, one that does not answer in time is not."""
        try:
            return not any(slot["is_processing"] for slot in self._get("/slots", child_process.END_TIMEOUT_S))
        except httpx2.TimeoutException:
            return False
        except httpx2.HTTPError:
            return self.exit_status() is not None

    def look(self, loop_too: bool) -> Look:
        """Whether the process runs, answers, and with `loop_too` whether the loop that computes does."""
        if self.is_stopped():
            return Look(True, False)
        return Look(False, self._answers("/health"), self._answers("/slots") if loop_too else None)

    def _answers(self, path: str) -> bool:
        """Whether the server answers a GET in time, with any status."""
        try:
            self._get(path, _LOOK_TIMEOUT_S)
        except httpx2.HTTPError:
            return False
        return True

    def abandon(self) -> None:
        """Closes our HTTP client and our ends of the pipes of a process that has ended; its folder stays."""
        self._http.close()
        super().abandon()

    def _get(self, path: str, timeout_s: float) -> Any:
        """The JSON of a GET. Raises httpx2.HTTPError, also where another thread has ended the process meanwhile."""
        try:
            return self._http.get(f"{self._url}{path}", timeout=timeout_s).json()
        except RuntimeError as error:
            if not self._http.is_closed:
                raise
            raise httpx2.NetworkError("The process was ended.") from error

    def _capacity_of(self, properties: Mapping[str, Any]) -> Capacity:
        """What callers may reserve, by the server's own word (its /props) for the limit of one slot."""
        tokens = self._launch.context_tokens - self._launch.context_tokens // _PROBES_SHARE
        window = int(properties["default_generation_settings"]["n_ctx"])
        return Capacity(str(self._base.base_folder.absolute()), self._launch.slots, tokens, min(window, tokens))

    def _unproven(self, what: str) -> Unavailable:
        """The error for a new process that does not pass `prove`."""
        return Unavailable("engine_failed", f"The new engine process {what}, so it was ended. Try again.")


def start(launch: Launch, folder: Path, models: Sequence[ServedModel]) -> EngineProcess:
    """Starts a process for the models, which share a base, and returns it once they are loaded.

    Raises Unavailable; the process is ended then, and its log stays.
    """
    base = models[0]
    gguf = BaseModelFolder(base.base_folder).gguf
    if not gguf.exists() and not CheckpointFolder(base.base_folder).hf.weights.exists():
        raise child_process.incomplete(base)
    key = secrets.token_hex(16)
    config = _config(launch, models, key)
    process = child_process.spawn(launch.python, _MODULE, folder, config.to_json(), _SLEEP_WHEN_WAITING)
    engine = EngineProcess(process, launch, folder, key, models)
    try:
        engine.await_ready(launch.timeout_s)
    except Unavailable:
        engine.kill()
        engine.abandon()
        raise
    return engine


def _config(launch: Launch, models: Sequence[ServedModel], key: str) -> Config:
    """What the process of these models serves: adapters in the order of the models that have one."""
    base = models[0]
    return Config(
        base_folder=str(base.base_folder),
        base_gguf=str(BaseModelFolder(base.base_folder).gguf),
        alias=base.base_model,
        adapters=tuple(str(model.adapter_folder) for model in models if model.adapter_folder),
        context_tokens=launch.context_tokens,
        slots=launch.slots,
        threads=launch.threads,
        key=key,
    )
