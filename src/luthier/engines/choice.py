"""Which engine serves a base model, by a rule that is written down: docs/serving.md, "Engines".

`ChosenEngine` and `ChosenEngineClient` apply it: `app.py` gives them to the service as its one engine and client.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from luthier.core.engine_ports import Address, Engine, EngineClient, EngineRequest, EngineState, ServedModel
from luthier.core.inference.generation import EngineDelta, TokenLogProb, Usage
from luthier.core.states import EngineName, LoadState
from luthier.data.rendering.renderer import Renderer
from luthier.engines.native.decoder import library, model_config, weights
from luthier.engines.native.decoder.model_config import Unsupported
from luthier.model_folder import EmbeddingFolder, HuggingFaceFolder
from luthier.tokenization.torch_free_tokenizer import TorchFreeTokenizer


@dataclass(frozen=True, slots=True)
class Choice:
    """The engine of one model, and why; the reason is a sentence for the operator."""

    engine: EngineName
    reason: str


def choose(base_folder: Path, setting: EngineName = EngineName.AUTO) -> Choice:
    """Our own engine for the model in `base_folder` if it can serve that, else llama.cpp; and the reason.

    `setting` names one engine for all; NATIVE means the same as AUTO. The first call for a folder reads the model's
    files and may compile the decoder, which takes many seconds. Files that cannot be read mean llama.cpp, no error.
    """
    if EmbeddingFolder(base_folder).exists:
        return Choice(EngineName.LLAMACPP, "It makes embeddings, in a process of its own.")
    if setting in _FIXED:
        return Choice(setting, "LUTHIER_SERVE_ENGINE asks for it.")
    obstacle = _obstacle(base_folder.absolute())
    if obstacle is None:
        return Choice(EngineName.NATIVE, "The model and this machine have all that it needs.")
    return Choice(EngineName.LLAMACPP, f"Luthier's own engine does not serve it: {obstacle}.")


def is_chosen(base_folder: Path, setting: EngineName) -> bool:
    """Whether `choose` can answer at once, without reading files."""
    return setting in _FIXED or base_folder.absolute() in _known_obstacles


_FIXED = (EngineName.LLAMACPP, EngineName.VLLM, EngineName.REMOTE)
"""Settings that leave nothing to choose."""
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
    if renderer.renders_tools and renderer.call_form is None:
        return "its chat template writes tool calls in a form that only llama.cpp parses"
    if library.load() is None:
        return "this machine has no C++ compiler that builds it"
    return None


class ChosenEngine:
    """Implements core.engine_ports.Engine by others: each model has the one that `choose` says."""

    def __init__(self, engines: Mapping[EngineName, Engine], setting: EngineName, embeddings: Engine) -> None:
        """`engines` are all that `choose` may name under this setting; models that embed have `embeddings`."""
        self._engines = engines
        self._setting = setting
        self._embeddings = embeddings

    def loaded(self, model: ServedModel) -> Address | None:
        """As the port says; None before the first load of its base, since asking the rule may take seconds."""
        engine = self._known(model)
        return None if engine is None else engine.loaded(model)

    def faults(self) -> Sequence[str]:
        """Those of all engines, a sentence each; empty if all is well."""
        return [fault for engine in self._all() for fault in engine.faults()]

    def state(self, model: ServedModel) -> EngineState:
        """That of the engine that serves the model; before the first load of its base the setting's, not loaded."""
        engine = self._known(model)
        if engine is None:
            return EngineState(self._setting, LoadState.RESTING, "It is not loaded. The next call loads it.")
        return engine.state(model)

    def ensure(self, model: ServedModel) -> Address:
        """Loads the model into its engine. Raises Unavailable when it cannot be served."""
        if model.embeds:
            return self._embeddings.ensure(model)
        return self._engines[choose(model.base_folder, self._setting).engine].ensure(model)

    def release(self, model_id: str) -> None:
        """Has all engines forget the model; one that does not know it does nothing."""
        for engine in self._all():
            engine.release(model_id)

    def close(self) -> None:
        """Ends every process of every engine."""
        for engine in self._all():
            engine.close()

    def _all(self) -> tuple[Engine, ...]:
        return (*self._engines.values(), self._embeddings)

    def _known(self, model: ServedModel) -> Engine | None:
        """The engine of a model, if that can be said at once."""
        if model.embeds:
            return self._embeddings
        if not is_chosen(model.base_folder, self._setting):
            return None
        return self._engines[choose(model.base_folder, self._setting).engine]


class ChosenEngineClient:
    """Implements core.engine_ports.EngineClient by others, each for the addresses of one scheme."""

    def __init__(self, clients: Mapping[str, EngineClient]) -> None:
        """`clients` by the scheme of their addresses' URLs."""
        self._clients = clients

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
        """Closes the connections of all clients."""
        for client in self._clients.values():
            await client.close()

    def _of(self, address: Address) -> EngineClient:
        return self._clients[address.url.partition(":")[0]]
