"""Engine hosts: processes that load models and answer for API processes, and the port by which those call them.

Implemented in `engines/hosts`; the other end is `luthier.engine_host`.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from luthier.core.errors import Unavailable

PATH = "/luthier-engines/1/"
"""Before the operation in the path of a call, with the number of the protocol: a host of another one answers 404."""
RESTART_S = 5.0
"""When a caller may ask again whose host has gone: by then another one is asked."""

GONE = "engine_gone"
_GONE = "The engine host of this model ended or cannot be reached. Ask again: another one takes its place."
NO_HOST = "no_engine_host"
"""The code of the error that no host lives: what needs one waits until one starts."""


class Operation(StrEnum):
    """What a host is asked for; the last part of the URL's path."""

    LOAD = "load"
    GENERATE = "generate"
    TOKENIZE = "tokenize"
    PROMPT_TOKENS = "prompt-tokens"
    DETOKENIZE = "detokenize"
    PROMPT_LOG_PROBS = "prompt-log-probs"
    EMBED = "embed"
    PROVE = "prove"
    STATES = "states"
    RELEASE = "release"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True)
class EngineHost:
    """A host that lives. `url` is where it is reached and its name over restarts, `process` the name of this start of
    it; of models it gets a share by `weight`.
    """

    url: str
    process: str
    weight: int


class HostGone(Unavailable):
    """A host cannot be asked, and another one may be: it cannot be reached, has ended in the middle of a call, sends
    nothing, or does not know this process.
    """

    def __init__(self, code: str = GONE, message: str = _GONE) -> None:
        super().__init__(code, message, retry_after_s=RESTART_S)


class HostClient(Protocol):
    """Calls hosts. `stream` and `ask` live on one event loop, `ask_now` is for threads.

    Each raises HostGone, also for a host with another key or protocol, RateLimited for one with too many
    connections, and what the host itself raises.
    """

    def stream(self, url: str, operation: Operation, body: Mapping[str, object]) -> AsyncGenerator[object]:
        """The values of an answer as they come, as JSON has them. Closing the generator ends the call at the host."""
        ...

    async def ask(self, url: str, operation: Operation, body: Mapping[str, object]) -> object:
        """The only value of an answer."""
        ...

    def ask_now(
        self, url: str, operation: Operation, body: Mapping[str, object], timeout_s: float | None = None
    ) -> object:
        """As `ask`; blocks, for `timeout_s` at most."""
        ...

    async def close(self) -> None:
        """Closes the connections to all hosts; no call may follow."""
        ...
