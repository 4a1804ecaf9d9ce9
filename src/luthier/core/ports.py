"""What the service needs from the outside, as protocols. `app.py` alone knows which implementations exist."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from luthier.core.states import RunState


@dataclass(frozen=True, slots=True)
class Blob:
    """What was stored: its key, its length, and the sha256 of its bytes in hex."""

    key: str
    bytes: int
    sha256: str


class BlobStore(Protocol):
    """Bytes by key. A key is a relative path of ids; a put is whole or absent, never half."""

    def put(self, key: str, chunks: Iterable[bytes]) -> Blob:
        """Stores the chunks. Raises NoSpace where they do not fit."""
        ...

    def open(self, key: str, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes in chunks, from `start`, all or `length` of them. Raises FileNotFoundError where nothing is stored.

        The range must lie inside what is stored.
        """
        ...

    def join(self, key: str, parts: Sequence[str], on_chunk: Callable[[bytes], object]) -> Blob:
        """Stores the bytes of other keys, one after another; `on_chunk` sees all of them. Raises FileNotFoundError."""
        ...

    def delete(self, key: str) -> None:
        """Deletes; a key without bytes is no error."""
        ...

    def keys(self, folder: str) -> Iterator[tuple[str, datetime]]:
        """Every key below a folder, with the time when its bytes were stored."""
        ...


class Fetcher(Protocol):
    """Gets what a URL of a caller's names, and is no way into the network behind this machine."""

    def check(self, url: str) -> None:
        """Raises InvalidRequest for a URL that would be refused whatever its name resolves to."""
        ...

    def get(self, url: str, max_bytes: int, max_seconds: float) -> AbstractContextManager[Iterator[bytes]]:
        """Opens the URL; the chunks of its answer follow. Raises InvalidRequest, TooLarge and Unavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run's process ended, as far as it is known: nothing at all where it was no child of ours.

    `out_of_memory` is set on the word of the kernel or of the process alone, never on a guess.
    """

    exit_status: int | None = None
    signal: int | None = None
    out_of_memory: bool = False


class Executor(Protocol):
    """Starts the trainer on a run directory and finds it again by a handle that survives a restart of ours."""

    def start(self, run: Path) -> str: ...

    def find(self, run: Path) -> str | None:
        """The handle of the trainer that is at the run, should its start have been the last thing before a crash."""
        ...

    def look(self, handle: str) -> RunState: ...

    def ending(self, handle: str) -> Ending:
        """How a process ended that `look` found gone."""
        ...

    def stop(self, handle: str) -> None:
        """Has the run leave after its step, or ends it when that takes too long; returns when it is gone."""
        ...

    def kill(self, handle: str) -> None:
        """Ends the run's process in the middle of whatever it does; returns when it is gone. A gone one is no error."""
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
class Address:
    """Where a model answers: an OpenAI-compatible base URL, and what every request must carry there.

    `fields` go into the JSON body, `headers` into the head (a key of the engine's own). `renders_tools` is whether the
    model's own chat template knows tools, and the engine reads its calls; otherwise `data.tool_prompt` writes them out.
    Ask `ensure` for each request anew: an address is not kept.
    """

    url: str
    fields: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)
    renders_tools: bool = False


class Engine(Protocol):
    """Keeps models answering. Chat itself is HTTP to the address. Safe to call from several threads."""

    def ensure(self, model: ServedModel) -> Address:
        """Loads the model if it is not loaded and returns where it answers. Raises Unavailable when it cannot."""
        ...

    def release(self, model_id: str) -> None:
        """Forgets a model; one that is not loaded is no error."""
        ...

    def close(self) -> None:
        """Ends every process of the engine."""
        ...


@dataclass(frozen=True, slots=True)
class ParityReport:
    """How far the served model's log-probabilities are from those that the trainer wrote.

    Differences are absolute, in nats; `agrees` is the verdict by `tolerance`.
    """

    positions: int
    max_difference: float
    mean_difference: float
    tolerance: float
    agrees: bool
    reason: str


class ParityCheck(Protocol):
    def __call__(self, address: Address, folder: Path) -> ParityReport:
        """Asks the probes of `folder`/probes.json at the address. Raises Unavailable if the engine does not answer."""
        ...
