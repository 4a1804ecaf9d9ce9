"""Models on a server that others run: reached by its URL, never started or ended by us."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from luthier.core.engine_ports import Address, Capacity, EngineState, ServedModel
from luthier.core.errors import Unavailable
from luthier.core.states import EngineName, LoadState
from luthier.engines.remote import completions_server
from luthier.engines.remote.completions_server import CompletionsServer

logger = logging.getLogger(__name__)

DTYPE = "bfloat16"
"""What a server of others is taken to compute in: servers do not say, and this is what nearly all do."""
LOOK_AGAIN_S = 60.0
"""So long after a look the next call has another look made: a server that was restarted has lost its adapters."""


class RemoteEngine:
    """Implements core.engine_ports.Engine over one OpenAI-compatible server.

    A base model is the one that the server lists under its name, or the only one that it lists. An adapter is one that
    it lists under the model's name, or is loaded from its folder, which the server must see under the same path.
    Whatever answers has to pass the parity check before callers get to it.
    """

    name = EngineName.REMOTE

    def __init__(
        self, url: str, key: str, context_tokens: int, slots: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`context_tokens` is the longest prompt with its answer, `slots` how many answers it is asked for at once."""
        capacity = Capacity(url, slots, context_tokens * slots, context_tokens, takes_turns=True)
        self._server = CompletionsServer(url, key, capacity)
        self._addresses: dict[str, Address] = {}
        self._looked_at: dict[str, float] = {}
        self._clock = clock
        self._loaded_here: dict[str, str] = {}
        self._fault = ""
        self._lock = threading.Lock()

    def loaded(self, model: ServedModel) -> Address | None:
        """Where a model answers that was found or loaded before; a thread looks again if that was a minute ago."""
        address, now = self._addresses.get(model.id), self._clock()
        if address is not None and now - self._looked_at.get(model.id, now) >= LOOK_AGAIN_S:
            self._looked_at[model.id] = now
            threading.Thread(target=self._look_again, args=(model,), name="look-again", daemon=True).start()
        return address

    def faults(self) -> list[str]:
        """Why the last model that was asked for is not served; empty if it is."""
        return [self._fault] if self._fault else []

    def state(self, model: ServedModel) -> EngineState:
        """Whether the model was found on the server; asks it nothing."""
        if model.id in self._addresses:
            return EngineState(self.name, LoadState.READY, "The server has it.")
        return EngineState(self.name, LoadState.RESTING, self._fault or "The next call asks the server for it.")

    def ensure(self, model: ServedModel) -> Address:
        """Finds the model on the server, or has it load the adapter. Raises Unavailable."""
        with self._lock:
            if (address := self._addresses.get(model.id)) is not None:
                return address
            return self._look(model)

    def release(self, model_id: str) -> None:
        """Forgets a model; an adapter that was loaded for it is unloaded."""
        with self._lock:
            self._addresses.pop(model_id, None)
            self._looked_at.pop(model_id, None)
            name = self._loaded_here.pop(model_id, None)
        if name is not None and name not in self._loaded_here.values():
            self._server.unload_adapter(name)

    def close(self) -> None:
        """Unloads the adapters that were loaded; the server goes on."""
        for model_id in list(self._loaded_here):
            self.release(model_id)

    def _look_again(self, model: ServedModel) -> None:
        """The thread: a model that the server no longer has is forgotten, so that the next call says so."""
        with self._lock, suppress(Unavailable):
            if model.id in self._addresses:
                self._look(model)

    def _look(self, model: ServedModel) -> Address:
        """Finds the model and remembers where, or why not; to be called with the lock. Raises Unavailable."""
        try:
            address = self._find(model)
        except Unavailable as error:
            self._fault = error.message
            self._addresses.pop(model.id, None)
            raise
        self._fault = ""
        self._addresses[model.id], self._looked_at[model.id] = address, self._clock()
        return address

    def _find(self, model: ServedModel) -> Address:
        """The address of a model, its adapter loaded if the server does not list it. Raises Unavailable."""
        models = self._server.models()
        listed, is_vllm = [str(one["id"]) for one in models], any(one.get("owned_by") == "vllm" for one in models)
        candidates = completions_server.bases(models)
        if model.base_model not in candidates and len(candidates) != 1:
            raise Unavailable(
                "model_not_served",
                f"The server at LUTHIER_ENGINE_URL lists no model {model.base_model}. Serve it there under that name.",
            )
        base = model.base_model if model.base_model in candidates else candidates[0]
        if model.id in listed or model.adapter_folder is None:
            name = model.id if model.id in listed else base
        else:
            name = self._loaded_here[model.id] = self._server.load_adapter(model.adapter_folder)
        return self._server.address(model, name, base, is_vllm, DTYPE)
