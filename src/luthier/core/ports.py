"""The ports of the service, as protocols: what `api` and `service` need of the world outside.

Only `app.py` and `data_folder.py` know which implementations exist; tests/contract holds each to its port.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from luthier.core.roles import Role
from luthier.core.states import SinkName
from luthier.core.training.tracking import Delivery, TrackedEnd, TrackedPoint, TrackedRun


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

    def abort_partial_puts(self, began_before: datetime) -> int:
        """Ends puts that began before and are not complete: what a killed process left in the store; returns how many.

        A store that cannot list them, or does not let the service, ends none.
        """
        ...


class DownloadLinks(Protocol):
    """Signed URLs of a blob store."""

    def url_of(self, key: str) -> str | None:
        """A URL by which anybody can read the blob for a short time; None if none can be signed now. May block."""
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


@dataclass(frozen=True, slots=True)
class PostAnswer:
    """What a POST was answered: the HTTP status, and the seconds that Retry-After asks for, 0 without one."""

    status: int
    retry_after_s: float = 0.0


class Fetcher(Protocol):
    """Fetches a caller's URL, or posts to it, with an SSRF guard: nothing in the network behind this machine can be
    reached.
    """

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

    def check_host(self, url: str, max_seconds: float) -> None:
        """As `check`, and looks the name up. Raises Unavailable for a lookup that takes longer than `max_seconds`."""
        ...

    def post(self, url: str, body: bytes, headers: Mapping[str, str], max_seconds: float) -> PostAnswer:
        """Posts a body, redirects not followed, and returns the answer's status, whatever it is.

        Raises InvalidRequest for a URL that is refused, Unavailable for a server that cannot be reached or has not
        answered within `max_seconds`.
        """
        ...


class Span(Protocol):
    """One call of a model in a trace. After `end` everything else does nothing."""

    def rename(self, name: str) -> None:
        """Replaces the name that the span began with."""
        ...

    def set(self, name: str, value: str | int | float | bool | Sequence[str]) -> None:
        """Sets an attribute."""
        ...

    def end(self, failed: bool) -> None:
        """Ends the span, now; it is sent some time later, in another thread."""
        ...


class SpanSource(Protocol):
    """Where the spans of calls begin; `otlp.otlp_spans` sends them to a collector."""

    def begin(self, name: str, headers: Mapping[str, str]) -> Span:
        """A span that begins now, in the trace that the W3C headers `traceparent` and `tracestate` name, if any."""
        ...

    def close(self) -> None:
        """Sends what is left, for two seconds at most, and drops the rest."""
        ...


class MetricsSink(Protocol):
    """An experiment tracker: takes the figures of a job's steps, each once, whatever is sent to it again.

    All methods are called by one thread, and block; `close` may come from another, while a call is under way.
    """

    @property
    def name(self) -> SinkName:
        """The tracker."""
        ...

    def deliver(self, run: TrackedRun, points: Sequence[TrackedPoint], end: TrackedEnd | None) -> Delivery:
        """Stores the points that the tracker does not have yet, and the run's end if it is given; opens the run first.

        Points come in the order of their events, and all of them before the end. After an error, and in a new process,
        they come again from the first that no delivery has confirmed. A delivery with an end confirms all of them.

        Raises Unavailable if a later call may succeed (`retry_after_s` if the tracker names a time), and another
        LuthierError if it cannot before somebody changes something. Returns within a bounded time.
        """
        ...

    def forget(self, job_id: str) -> None:
        """No delivery of this job follows in this process: whatever is held open for it is closed."""
        ...

    def close(self) -> None:
        """Ends everything that is open, without waiting for a tracker. Idempotent."""
        ...
