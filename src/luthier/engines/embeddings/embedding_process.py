"""One process of an embedding model as its parent sees it: start, proof that it answers, idleness, end."""

import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from luthier.core.engine_ports import Address, Capacity, ServedModel
from luthier.core.errors import Unavailable
from luthier.engines import child_process
from luthier.engines.child_process import ChildProcess
from luthier.engines.embeddings.embedding_server import Config
from luthier.engines.watchdog import Look
from luthier.model_folder import EmbeddingDescription, EmbeddingFolder

SLOTS = 4
"""Texts that llama.cpp computes side by side. Measured with all-minilm-l6-v2: as fast as 8 and 16, 2 are slower."""
BATCHES = 4
"""Batches that callers may have sent at once: one is computed, the next is there already. The last of them is for a
resource that has none (`service.scheduling.admission`)."""
BATCH_TOKENS = 1024
"""Tokens of a batch at most, or one text: half a second of work, which everybody else's next batch waits for."""
_MODULE = "luthier.engines.embeddings.embedding_server"
_PROOF_TIMEOUT_S = 120.0
_LOOK_TIMEOUT_S = 2.0
_NO_KEPT = httpx2.Limits(max_keepalive_connections=0)
_SLEEP_WHEN_WAITING = {"OMP_WAIT_POLICY": "passive"}
"""As for chats: threads that spin collapse beside whatever else computes (docs/serving.md)."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How processes are started, the same for every model; `timeout_s` is for one to load."""

    python: str
    threads: int
    timeout_s: float


class EmbeddingProcess(ChildProcess):
    """A llama.cpp server with one embedding model. Implements engines.process_per_base.Process."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        folder: Path,
        key: str,
        model: ServedModel,
        description: EmbeddingDescription,
    ) -> None:
        super().__init__(process, folder, model)
        self._headers = {"Authorization": f"Bearer {key}"}
        self._url = ""
        self._description = description
        self._http = httpx2.Client(
            headers=self._headers, trust_env=False, transport=httpx2.HTTPTransport(verify=False, limits=_NO_KEPT)
        )

    def serves(self, model: ServedModel) -> bool:
        """Whether the process lives: it has the one model."""
        return self.exit_status() is None

    def address(self, model: ServedModel) -> Address:
        """Where the model answers, with the server's key and what callers may send at once."""
        engine = str(self._base.base_folder.absolute())
        most = self._description.max_tokens
        capacity = Capacity(engine, BATCHES, BATCHES * max(BATCH_TOKENS, most), most)
        return Address(f"{self._url}/v1", {}, self._headers, takes_tokens=True, capacity=capacity, embeds=True)

    def await_ready(self, timeout_s: float) -> None:
        """Waits for the process's line, which gives its URL. Raises Unavailable when it says no, ends, or is late."""
        self._url = self.await_line(timeout_s)["url"]

    def prove(self) -> None:
        """Has the vector of one token computed. Raises Unavailable where it has another length than it should."""
        body = {"input": [[0]], "encoding_format": "float"}
        try:
            reply = self._http.post(f"{self._url}/v1/embeddings", json=body, timeout=_PROOF_TIMEOUT_S)
            if reply.status_code != 200 or len(reply.json()["data"][0]["embedding"]) != self._description.dimensions:
                raise self.failed(f"does not answer with vectors (HTTP {reply.status_code})")
        except httpx2.HTTPError as error:
            raise self.failed("does not answer") from error

    def is_idle(self) -> bool:
        """Whether no slot works on a text; one that is gone is idle, one that does not answer in time is not."""
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

    def abandon(self) -> None:
        """Closes our HTTP client and our ends of the pipes of a process that has ended; its folder stays."""
        self._http.close()
        super().abandon()

    def _answers(self, path: str) -> bool:
        """Whether the server answers a GET in time, with any status."""
        try:
            self._get(path, _LOOK_TIMEOUT_S)
        except httpx2.HTTPError:
            return False
        return True

    def _get(self, path: str, timeout_s: float) -> Any:
        """The JSON of a GET. Raises httpx2.HTTPError, also where another thread has ended the process meanwhile."""
        try:
            return self._http.get(f"{self._url}{path}", timeout=timeout_s).json()
        except RuntimeError as error:
            if not self._http.is_closed:
                raise
            raise httpx2.NetworkError("The process was ended.") from error


def start(launch: Launch, folder: Path, model: ServedModel) -> EmbeddingProcess:
    """Starts a process for the model, and returns it once it has computed a vector.

    Raises Unavailable; the process is ended then, and its log stays.
    """
    embedding = EmbeddingFolder(model.base_folder)
    try:
        description = embedding.read()
    except (OSError, ValueError, KeyError) as error:
        raise child_process.incomplete(model) from error
    if not embedding.gguf.exists() and not embedding.hf.weights.exists():
        raise child_process.incomplete(model)
    key = secrets.token_hex(16)
    config = Config(
        folder=str(model.base_folder),
        gguf=str(embedding.gguf),
        alias=model.base_model,
        max_tokens=description.max_tokens,
        slots=SLOTS,
        threads=launch.threads,
        key=key,
    )
    process = child_process.spawn(launch.python, _MODULE, folder, config.to_json(), _SLEEP_WHEN_WAITING)
    engine = EmbeddingProcess(process, folder, key, model, description)
    try:
        engine.await_ready(launch.timeout_s)
        engine.prove()
    except Unavailable:
        engine.kill()
        engine.abandon()
        raise
    return engine
