"""The ports of engines, as protocols: what `service` needs of what loads models and answers with them.

Implemented in `engines/`; tests/contract holds each to its port.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from luthier.core.inference.generation import EngineDelta, TokenLogProb, Usage
from luthier.core.states import EngineName, LoadState


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that an engine can answer with: a base, and at most one adapter on it.

    `id` is the model's public name; `base_folder` and `adapter_folder` are local folders. A model of which all weights
    were tuned is a base of its own: its folder, and no adapter. One that `embeds` makes vectors and no answers.
    """

    id: str
    base_model: str
    base_folder: Path
    adapter_folder: Path | None
    embeds: bool = False


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much an engine computes at once. `engine` names it across restarts of its process: it has one queue.

    Its `slots` share `context_tokens`; prompt and answer together have at most `window_tokens`, the model's own limit.
    Where it `takes_turns`, the engine itself shares its time fairly between prompts and answers, and a request names
    who may share its prompt's KV cache (`cache_scope`). Elsewhere a request may name its slot (`id_slot`) and whether
    the slot's KV cache may be reused (`cache_prompt`).
    """

    engine: str
    slots: int
    context_tokens: int
    window_tokens: int
    takes_turns: bool = False


@dataclass(frozen=True, slots=True)
class Address:
    """Where a model answers: an OpenAI-compatible base URL, and what every request must carry there.

    `fields` go into the JSON body, `headers` into the HTTP header (an API key of the engine's own). `renders_tools` is
    whether the model's own chat template knows tools, and the engine parses its calls; otherwise
    `data.tools.prompt_format` renders them. Where it `takes_tokens`, a request's
    `prompt` is token ids and nothing else. `scores_url` is the base URL of the server of prompt log-probabilities,
    None if there is none. `capacity` is None for an engine that needs no queue. Ask `ensure` for each request anew: an
    address is not kept. Where it `embeds`, only an `EmbeddingClient` calls it.
    """

    url: str
    fields: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)
    renders_tools: bool = False
    takes_tokens: bool = False
    capacity: Capacity | None = None
    scores_url: str | None = None
    embeds: bool = False


@dataclass(frozen=True, slots=True)
class EngineState:
    """What serves a model, what it has of it now, and why, in a sentence for the operator."""

    engine: EngineName
    state: LoadState
    reason: str


class Engine(Protocol):
    """Keeps models loaded; `EngineClient` calls them at their addresses. Safe to call from several threads."""

    def loaded(self, model: ServedModel) -> Address | None:
        """Where the model answers, None unless it is loaded; never waits for a load."""
        ...

    def faults(self) -> Sequence[str]:
        """Why models that should answer do not, a sentence each."""
        ...

    def state(self, model: ServedModel) -> EngineState:
        """What serves the model and whether it is loaded; loads nothing, and waits for no load."""
        ...

    def ensure(self, model: ServedModel) -> Address:
        """Loads the model if it is not loaded and returns where it answers. Raises Unavailable when it cannot."""
        ...

    def release(self, model_id: str) -> None:
        """Forgets a model, and may end its process; one that is not loaded is no error."""
        ...

    def close(self) -> None:
        """Ends every process of the engine."""
        ...


EngineRequest = Mapping[str, object]
"""One answer's request in the fields of an OpenAI-compatible API: `messages` for a chat, `prompt` (a text or token ids)
for a completion, sampling parameters, `tools`, and the `grammar` that the answer must match."""


class EngineClient(Protocol):
    """Calls a model at its address. Lives on one event loop.

    Every call raises InvalidRequest for what the engine refuses, Unavailable for one that has ended or is stalled, and
    UpstreamFailed for an error of its own.
    """

    def generate(self, address: Address, request: EngineRequest) -> AsyncGenerator[EngineDelta | Usage]:
        """One answer as it is generated, with its usage. Closing the generator ends the generation."""
        ...

    async def render(self, address: Address, request: EngineRequest) -> str:
        """The prompt of a chat's `messages` and `tools` by the model's own chat template."""
        ...

    async def tokenize(self, address: Address, text: str) -> Sequence[int]:
        """The token ids of a prompt's text, special tokens parsed and those that begin every prompt added."""
        ...

    async def detokenize(self, address: Address, token_ids: Sequence[int]) -> str:
        """The text of token ids."""
        ...

    async def prompt_log_probs(self, address: Address, token_ids: Sequence[int], top: int) -> list[TokenLogProb]:
        """A prompt's own tokens, each with the `top` likeliest in its position, and last what would come next.

        One entry more than `token_ids`. The first token and the last entry have no log-probability of their own; the
        last has no token.
        """
        ...

    async def busy_slots(self, address: Address) -> set[int] | None:
        """The slots with an answer in progress, all if the engine is too busy to say; None if it is gone."""
        ...

    async def close(self) -> None:
        """Closes the connections to all engines; no call may follow."""
        ...


class EmbeddingClient(Protocol):
    """Calls an embedding model at its address. Lives on one event loop."""

    async def embed(self, address: Address, inputs: Sequence[Sequence[int]]) -> list[bytes]:
        """The vector of each input, given in token ids, in their order: float32, little-endian, of length 1.

        Raises Unavailable for an engine that has ended or is stalled, and UpstreamFailed for an error of its own.
        """
        ...

    async def close(self) -> None:
        """Closes the connections to all engines; no call may follow."""
        ...


@dataclass(frozen=True, slots=True)
class ParityReport:
    """How far the served model's log-probabilities are from those that the trainer wrote.

    Differences are absolute, in nats, over `positions` of the probes; `agrees` is the verdict by `tolerance`, `reason`
    the sentence on it. Of an embedding model they are distances between vectors of length 1, over its probes.
    """

    positions: int
    max_difference: float
    mean_difference: float
    tolerance: float
    agrees: bool
    reason: str


class ParityCheck(Protocol):
    """Compares a served model with what the trainer stored of it: engines/parity.py, or a test's double."""

    def __call__(self, address: Address, folder: Path, n_probes: int | None = None) -> ParityReport:
        """Runs the probes of `folder`/probes.json, or the first `n_probes` of them, at the address.

        Raises Unavailable if the engine does not answer.
        """
        ...
