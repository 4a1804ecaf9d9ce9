"""The ports of the service, as protocols: what `api` and `service` need of the world outside.

Only `app.py` and `data_folder.py` know which implementations exist; tests/contract holds each to its port.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from luthier.core.roles import Role
from luthier.core.states import RunState


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
    """What a valid token says: who it was issued to, the resource (`account`) that it opens, its roles there, and its
    end."""

    subject: str
    account: str
    roles: frozenset[Role]
    expires_at: datetime


class TokenVerifier(Protocol):
    """Checks bearer tokens of an identity provider."""

    def verify(self, token: str) -> Claims:
        """What the token says. Raises Unauthenticated if it is refused, Unavailable if it cannot be checked now."""
        ...


@dataclass(frozen=True, slots=True)
class SignInAttempt:
    """What one browser has to bring back: `state` comes through the issuer's redirect, `nonce` in its ID token, and
    `verifier` proves that the code is exchanged by whoever asked for it (PKCE)."""

    state: str
    nonce: str
    verifier: str


class IssuerSignIn(Protocol):
    """Signs people in at an identity provider."""

    @property
    def host(self) -> str:
        """The provider's host, for people."""
        ...

    def begin(self, redirect_uri: str) -> tuple[SignInAttempt, str]:
        """A new attempt, and the address to send the browser to, which comes back to `redirect_uri`.

        Raises Unavailable if the provider is silent.
        """
        ...

    def finish(self, attempt: SignInAttempt, answer: Mapping[str, str], redirect_uri: str) -> str:
        """The token for the browser that came back with the query `answer`; the TokenVerifier accepts it.

        Raises Unauthenticated, in words for people, and Unavailable if the provider is silent.
        """
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
