"""The ports of the service, as protocols: what `api` and `service` need of the world outside.

Only `app.py` and `data_folder.py` know which implementations exist; tests/contract holds each to its port.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from luthier.core.generation import EngineDelta, TokenLogProb, Usage
from luthier.core.roles import Role
from luthier.core.states import EngineName, LoadState, RunState


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored blob: its key, its length, and the sha256 of its bytes in hex."""

    key: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """The listing entry of a blob; `stored_at` is when it was put, aware."""

    key: str
    bytes: int
    stored_at: datetime


class BlobStore(Protocol):
    """Bytes by key. A key is a relative path of ids; a put is atomic. Methods block unless they are async."""

    def put(self, key: str, chunks: Iterable[bytes]) -> Blob:
        """Stores the chunks, in place of what the key had. Raises NoSpace if they do not fit."""
        ...

    async def put_as_it_comes(self, key: str, chunks: AsyncIterator[bytes]) -> Blob:
        """The same for received chunks: occupies no thread while it waits for one.

        After a cancellation or an error of the chunks nothing is stored.
        """
        ...

    def open(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes in chunks, from `start`, all or `length` of them. Raises FileNotFoundError if there is no such key.

        The range must be inside the blob.
        """
        ...

    def join(self, key: str, parts: Sequence[str], on_chunk: Callable[[bytes], object]) -> Blob:
        """Stores the bytes of other keys, one after another; `on_chunk` sees all of them. Raises FileNotFoundError."""
        ...

    def delete(self, key: str) -> None:
        """Deletes a blob; a missing key is no error."""
        ...

    def move(self, key: str, to: str) -> None:
        """Renames a blob to a key that must be free. Raises FileNotFoundError for a key without a blob."""
        ...

    def stored(self, folder: str) -> Iterator[StoredBlob]:
        """Every blob below a folder, in no order; none for a folder that is not there."""
        ...


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid token says: who it was issued to, the resource (`account`) that it opens, and its roles there."""

    subject: str
    account: str
    roles: frozenset[Role]


class TokenVerifier(Protocol):
    """Checks bearer tokens of an identity provider."""

    def verify(self, token: str) -> Claims:
        """What the token says. Raises Unauthenticated if it is refused, Unavailable if it cannot be checked now."""
        ...


class Fetcher(Protocol):
    """Fetches a caller's URL with an SSRF guard: nothing in the network behind this machine can be reached."""

    def check(self, url: str) -> None:
        """Raises InvalidRequest for a URL that is refused whatever its name resolves to."""
        ...

    def get(self, url: str, max_bytes: int, max_seconds: float) -> AbstractContextManager[Iterator[bytes]]:
        """Opens the URL, redirects followed and judged alike, and yields the chunks of the response.

        The connection closes with the block. Opening and reading raise InvalidRequest for a URL that is refused or
        answers with an error, TooLarge beyond `max_bytes`, and Unavailable for a server that cannot be reached or is
        not done within `max_seconds`, which are for everything together.
        """
        ...


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run's process ended, as far as it is known: no field is set if it was not a child of this process.

    `out_of_memory` is set only on evidence of the kernel or of the process, never on a guess.
    """

    exit_status: int | None = None
    signal: int | None = None
    out_of_memory: bool = False


class Executor(Protocol):
    """Starts the trainer on a run directory and finds it again by a handle that survives a restart of the service."""

    def start(self, run: Path) -> str:
        """Starts a trainer process on a complete run directory and returns its handle; does not wait for it."""
        ...

    def find(self, run: Path) -> str | None:
        """The handle of the trainer at the run, for a service that crashed before it stored it; None without one."""
        ...

    def look(self, handle: str) -> RunState:
        """Whether the process lives: GONE also for one that this executor cannot know."""
        ...

    def ending(self, handle: str) -> Ending:
        """How a process ended for which `look` returned GONE."""
        ...

    def ask_to_stop(self, handle: str) -> None:
        """Asks the run to exit after its step; returns at once, `stop` waits. An exited run is no error."""
        ...

    def stop(self, handle: str) -> None:
        """Asks the run to exit after its step, and kills it if that takes too long; returns when it has exited."""
        ...

    def kill(self, handle: str) -> None:
        """Kills the run's process at once; returns when it has exited. An exited run is no error."""
        ...


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that an engine can answer with: a base, and at most one adapter on it.

    `id` is the model's public name; `base_folder` and `adapter_folder` are local folders. A model of which all weights
    were tuned is a base of its own: its folder, and no adapter.
    """

    id: str
    base_model: str
    base_folder: Path
    adapter_folder: Path | None


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
    address is not kept.
    """

    url: str
    fields: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)
    renders_tools: bool = False
    takes_tokens: bool = False
    capacity: Capacity | None = None
    scores_url: str | None = None


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


@dataclass(frozen=True, slots=True)
class ParityReport:
    """How far the served model's log-probabilities are from those that the trainer wrote.

    Differences are absolute, in nats, over `positions` of the probes; `agrees` is the verdict by `tolerance`, `reason`
    the sentence on it.
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
