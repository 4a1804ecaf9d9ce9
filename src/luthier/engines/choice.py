"""Which engine serves a base model, by a rule that is written down: docs/serving.md, "Engines".

`ChosenEngine` and `ChosenEngineClient` apply it: `app.py` gives them to the service as its one engine and client.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path

from luthier.core.generation import EngineDelta, TokenLogProb, Usage
from luthier.core.ports import Address, Engine, EngineClient, EngineRequest, ServedModel
from luthier.core.states import EngineName
from luthier.data.rendering.renderer import Renderer
from luthier.engines.native.client import SCHEME
from luthier.engines.native.decoder import library, model_config, weights
from luthier.engines.native.decoder.model_config import Unsupported
from luthier.model_folder import HuggingFaceFolder
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine of one model, and why; the reason is a sentence for the operator."""

    engine: EngineName
    reason: str


def choose(base_folder: Path, setting: EngineName = EngineName.AUTO) -> Choice:
    """Our own engine for the model in `base_folder` if it can serve that, else llama.cpp; and the reason.

    `setting` LLAMACPP means llama.cpp for all, NATIVE the same as AUTO. The first call for a folder reads the model's
    files and may compile the decoder, which takes many seconds. Files that cannot be read mean llama.cpp, no error.
    """
    if setting is EngineName.LLAMACPP:
        return Choice(EngineName.LLAMACPP, "LUTHIER_SERVE_ENGINE asks for it.")
    obstacle = _obstacle(base_folder.absolute())
    if obstacle is None:
        return Choice(EngineName.NATIVE, "The model and this machine have all that it needs.")
    return Choice(EngineName.LLAMACPP, f"Luthier's own engine does not serve it: {obstacle}.")


_known_obstacles: dict[Path, str | None] = {}
"""What does not change: weights under one path stay the same."""


def _obstacle(base_folder: Path) -> str | None:
    """Why our own engine cannot serve a model, in words for the operator; None if it can.

    Kept for each folder, but not for files that cannot be read: those may be there at the next call.
    """
    if base_folder not in _known_obstacles:
        try:
            _known_obstacles[base_folder] = _obstacle_of_files(model_config.hf_folder(base_folder))
        except (OSError, ValueError, KeyError) as error:
            return f"its files cannot be read ({type(error).__name__})"
    return _known_obstacles[base_folder]


def _obstacle_of_files(hf: HuggingFaceFolder) -> str | None:
    """As `_obstacle`, uncached: reads config, tokenizer and the weights' header, and compiles the decoder if need be.

    Raises OSError, ValueError and KeyError for files that cannot be read now.
    """
    try:
        config = model_config.read_config(hf)
        weights.read_model(hf, config, model_config.shape_of(config, 1))
    except Unsupported as error:
        return str(error)
    tokenizer = TorchFreeTokenizer(hf.path)
    if not tokenizer.end_ids:
        return "its files name no token that ends an answer"
    renderer = Renderer(tokenizer, 1)
    if renderer.renders_tools and not renderer.writes_our_calls:
        return "its chat template writes tool calls in a form that only llama.cpp parses"
    if library.load() is None:
        return "this machine has no C++ compiler that builds it"
    return None


class ChosenEngine:
    """Implements core.ports.Engine by two others: each model has the one that `choose` says."""

    def __init__(self, native: Engine, llamacpp: Engine, setting: EngineName) -> None:
        self._native = native
        self._llamacpp = llamacpp
        self._setting = setting

    def loaded(self, model: ServedModel) -> Address | None:
        """As the port says; but the first call for a base folder waits for `choose`, which may compile the decoder."""
        return self._of(model).loaded(model)

    def faults(self) -> Sequence[str]:
        """Those of both engines, a sentence each; empty if all is well."""
        return [*self._native.faults(), *self._llamacpp.faults()]

    def ensure(self, model: ServedModel) -> Address:
        """Loads the model into its engine. Raises Unavailable when it cannot be served."""
        return self._of(model).ensure(model)

    def release(self, model_id: str) -> None:
        """Has both engines forget the model; one that does not know it does nothing."""
        self._native.release(model_id)
        self._llamacpp.release(model_id)

    def close(self) -> None:
        """Ends every process of both."""
        self._native.close()
        self._llamacpp.close()

    def _of(self, model: ServedModel) -> Engine:
        """The engine of a model, by `choose`: the first call for a base folder reads its files."""
        choice = choose(model.base_folder, self._setting)
        return self._native if choice.engine is EngineName.NATIVE else self._llamacpp


class ChosenEngineClient:
    """Implements core.ports.EngineClient by two others: the scheme of an address's URL says whose it is."""

    def __init__(self, native: EngineClient, http: EngineClient) -> None:
        self._native = native
        self._http = http

    def generate(self, address: Address, request: EngineRequest) -> AsyncGenerator[EngineDelta | Usage]:
        return self._of(address).generate(address, request)

    async def render(self, address: Address, request: EngineRequest) -> str:
        return await self._of(address).render(address, request)

    async def tokenize(self, address: Address, text: str) -> Sequence[int]:
        return await self._of(address).tokenize(address, text)

    async def detokenize(self, address: Address, token_ids: Sequence[int]) -> str:
        return await self._of(address).detokenize(address, token_ids)

    async def prompt_log_probs(self, address: Address, token_ids: Sequence[int], top: int) -> list[TokenLogProb]:
        return await self._of(address).prompt_log_probs(address, token_ids, top)

    async def busy_slots(self, address: Address) -> set[int] | None:
        return await self._of(address).busy_slots(address)

    async def close(self) -> None:
        """Closes the connections of both clients."""
        await self._native.close()
        await self._http.close()

    def _of(self, address: Address) -> EngineClient:
        return self._native if is_native(address) else self._http


def is_native(address: Address) -> bool:
    """Whether an address is of our own engine (native://...), which speaks `native.protocol`, not HTTP."""
    return address.url.startswith(f"{SCHEME}:")
