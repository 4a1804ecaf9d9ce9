"""A server with a completions route as its owner sees it: which models it has, and adapters that it takes and forgets.

The routes for adapters are vLLM's (`/v1/load_lora_adapter`), which some others have too.
"""

import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx2

from luthier.core.engine_ports import Address, Capacity, ServedModel
from luthier.core.errors import Unavailable
from luthier.engines.native.decoder.model_config import hf_folder
from luthier.engines.remote.completions import SCHEME
from luthier.model_folder import CheckpointFolder

logger = logging.getLogger(__name__)

LOAD_TIMEOUT_S = 300.0
_LOOK_TIMEOUT_S = 5.0
_RUNNING = re.compile(r"^vllm:num_requests_(?:running|waiting)(?:\{[^}]*\})? ([0-9.e+]+)$", re.M)


class CompletionsServer:
    """One server, called by threads. `url` ends in /v1; `key` may be empty."""

    def __init__(self, url: str, key: str, capacity: Capacity | None = None) -> None:
        """Connects to nothing."""
        self.url = url.rstrip("/")
        self._root = self.url.removesuffix("/v1")
        self.capacity = capacity
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}

    def models(self) -> list[Mapping[str, Any]]:
        """What `/v1/models` lists. Raises Unavailable."""
        try:
            reply = self._call("GET", f"{self.url}/models", None, _LOOK_TIMEOUT_S)
            if reply.status_code == 200:
                return list(reply.json()["data"])
        except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
            raise self._unreachable(type(error).__name__) from error
        raise self._unreachable(f"status {reply.status_code}")

    def load_adapter(self, folder: Path) -> str:
        """Has the server load an adapter from a folder that it can read too; the name that it has there.

        The name is made of the weights, so it always means the same: servers cache prompts by it. Raises Unavailable.
        """
        try:
            name = adapter_name(folder)
        except OSError as error:
            logger.error("adapter not read error=%s", type(error).__name__)
            raise Unavailable("adapter_not_loaded", "The files of this model's adapter cannot be read.") from error
        body = {"lora_name": name, "lora_path": str(folder.absolute())}
        try:
            reply = self._call("POST", f"{self.url}/load_lora_adapter", body, LOAD_TIMEOUT_S)
        except httpx2.HTTPError as error:
            raise self._unreachable(type(error).__name__) from error
        if reply.status_code == 200 or (reply.status_code == 400 and "already" in reply.text):
            return name
        logger.error("adapter not loaded status=%d", reply.status_code)
        raise Unavailable(
            "adapter_not_loaded",
            f"The server behind this model does not load its adapter (status {reply.status_code}). It must serve the "
            "adapter's rank, read the same folder, and allow adapters to be loaded while it runs.",
        )

    def unload_adapter(self, name: str) -> None:
        """Has the server forget an adapter; one that it does not know, or a server that is gone, is no error."""
        try:
            self._call("POST", f"{self.url}/unload_lora_adapter", {"lora_name": name}, _LOOK_TIMEOUT_S)
        except httpx2.HTTPError as error:
            logger.warning("adapter not unloaded error=%s", type(error).__name__)

    def is_healthy(self) -> bool:
        """Whether the server answers at `/health`, which vLLM fails once its engine has died."""
        try:
            return bool(self._call("GET", f"{self._root}/health", None, _LOOK_TIMEOUT_S).status_code == 200)
        except httpx2.HTTPError:
            return False

    def n_requests(self) -> int | None:
        """How many requests run or wait, by vLLM's metrics; None if it does not say."""
        try:
            found = _RUNNING.findall(self._call("GET", f"{self._root}/metrics", None, _LOOK_TIMEOUT_S).text)
        except httpx2.HTTPError:
            return None
        return sum(int(float(number)) for number in found) if found else None

    def complete(self, body: Mapping[str, Any], timeout_s: float) -> Any:
        """The answer to a completion. Raises Unavailable for any other than a 200."""
        try:
            reply = self._call("POST", f"{self.url}/completions", body, timeout_s)
        except httpx2.HTTPError as error:
            raise self._unreachable(type(error).__name__) from error
        if reply.status_code != 200:
            raise Unavailable("engine_failed", f"The engine refuses the parity probes (HTTP {reply.status_code}).")
        return reply.json()

    def address(self, model: ServedModel, served_name: str, base_name: str, is_vllm: bool, dtype: str) -> Address:
        """Where a model answers under the name that the server knows it by; `base_name` is that of its base there.

        `dtype` is the one that the server computes in, as far as it is known.
        """
        adapter = None if model.adapter_folder is None else model.id
        fields = {
            "adapter": adapter,
            "tokenizer": str(hf_folder(model.base_folder).path),
            "served_name": served_name,
            "base_name": base_name,
            "dtype": dtype,
            "is_vllm": is_vllm,
        }
        return Address(f"{SCHEME}:{self.url}", fields, self._headers, takes_tokens=True, capacity=self.capacity)

    def _call(self, method: str, url: str, body: object, timeout_s: float) -> httpx2.Response:
        """One request on a connection of its own. Raises httpx2.HTTPError."""
        with httpx2.Client(headers=self._headers, timeout=timeout_s, trust_env=False) as client:
            return client.request(method, url, json=body)

    def _unreachable(self, why: str) -> Unavailable:
        logger.error("server not reached url=%s why=%s", self.url, why)
        return Unavailable("engine_gone", f"The server that should serve this model does not answer ({why}).")


def adapter_name(folder: Path) -> str:
    """A name for an adapter's weights and configuration: the hash of both."""
    checkpoint = CheckpointFolder(folder)
    stamp = checkpoint.adapter_weights.stat()
    return _adapter_name(folder, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(256)
def _adapter_name(folder: Path, modified_ns: int, size: int) -> str:
    """The name, computed once as long as the file is not replaced."""
    checkpoint = CheckpointFolder(folder)
    digest = hashlib.sha256(checkpoint.adapter_config.read_bytes())
    with checkpoint.adapter_weights.open("rb") as stream:
        while data := stream.read(1 << 20):
            digest.update(data)
    return f"adapter-{digest.hexdigest()[:24]}"


def bases(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of the models that a server lists, those that are no adapters on another."""
    return [str(model["id"]) for model in models if not model.get("parent")]
