"""The guarded fetcher: every hop judged, every wait capped, nothing of ours sent along but what is posted.

The name is resolved once, every address of the answer is judged, and the connection goes to one of those, with the name
in SNI and Host. Each redirect is a new URL, judged from the start; a POST follows none. No proxy, cookie or credential
is used, and no error tells what answered but for its status, and that of judged addresses alone. Implements
core.ports.Fetcher.
"""

import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.parse import urljoin

import httpcore2

from luthier import __version__
from luthier.core.errors import InvalidRequest, TooLarge, Unavailable
from luthier.core.ports import PostAnswer
from luthier.url_fetch import address_policy, pinned_connection, retry_after, url_target

MAX_REDIRECTS = 5
IDLE_SECONDS = 20.0
"""How long one lookup, connect, handshake, write or read may take; the whole has a cap of its own."""

MAX_ANSWER_BYTES = 16 * 1024
"""Of the body of a POST's answer: read so that the other side can send it, and thrown away."""
_REDIRECTS = {301, 302, 303, 307, 308}

Resolve = Callable[[str, int], list[str]]


class GuardedFetcher:
    """The Fetcher of this installation. Safe to use from several threads: each fetch has a connection of its own."""

    def __init__(
        self,
        allowed: address_policy.Allowed,
        *,
        allow_http: bool = False,
        resolve: Resolve = address_policy.resolve,
        tls: ssl.SSLContext | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """`resolve`, `tls` and `idle_seconds` are for tests: DNS, trusted certificates, and the longest single wait."""
        self._allowed = allowed
        self._schemes = {"https", "http"} if allow_http else {"https"}
        self._resolve = resolve
        self._tls = tls
        self._idle_seconds = idle_seconds

    def check(self, url: str) -> None:
        """Raises InvalidRequest for a URL that can never be fetched: its form, its scheme, or a private address in it.

        Resolves no name and connects to nothing: it is called while the caller waits.
        """
        target = url_target.parse(url, self._schemes)
        with_address = address_policy.literal(target.host)
        if with_address is not None and not self._allowed.takes(target.host, with_address):
            raise _not_public(target.host)

    def check_host(self, url: str, max_seconds: float) -> None:
        """As `check`, and resolves the name: raises InvalidRequest for one that leads anywhere private, or nowhere.

        Raises Unavailable if the lookup takes more than `max_seconds`.
        """
        self.check(url)
        target = url_target.parse(url, self._schemes)
        with _luthier_errors(target.host):
            self._addresses(target.host, target.port, max_seconds)

    def post(self, url: str, body: bytes, headers: Mapping[str, str], max_seconds: float) -> PostAnswer:
        """Posts the body with these headers; the answer's status, whatever it is: a redirect is not followed.

        Raises InvalidRequest for a refused URL or address and an invalid certificate, Unavailable for a connection that
        fails or has no status within `max_seconds`.
        """
        deadline = time.monotonic() + max_seconds
        target = url_target.parse(url, self._schemes)
        with _luthier_errors(target.host), self._open(target, deadline, "POST", headers, body) as answer:
            received = 0
            with suppress(httpcore2.TimeoutException, httpcore2.NetworkError, httpcore2.ProtocolError):
                for chunk in answer.iter_stream():
                    received += len(chunk)
                    if received > MAX_ANSWER_BYTES:
                        break
            return PostAnswer(answer.status, retry_after.seconds(answer.headers))

    @contextmanager
    def get(self, url: str, max_bytes: int, max_seconds: float) -> Iterator[Iterator[bytes]]:
        """The chunks of the file at a URL, while the block lasts; follows up to MAX_REDIRECTS redirects.

        Raises InvalidRequest (refused URL or address, another status than 200), TooLarge beyond `max_bytes`, and
        Unavailable for a connection that fails or takes more than `max_seconds` in all. Reading chunks raises the same.
        """
        deadline = time.monotonic() + max_seconds
        for _ in range(MAX_REDIRECTS + 1):
            target = url_target.parse(url, self._schemes)
            with ExitStack() as open_until_read:
                with _luthier_errors(target.host):
                    answer = open_until_read.enter_context(self._open(target, deadline))
                if answer.status not in _REDIRECTS:
                    _check_answer(target.host, answer, max_bytes)
                    yield _read(target.host, answer, max_bytes)
                    return
                url = _next_url(url, target.host, answer)
        raise url_target.refused("too_many_redirects", f"The URL redirects more than {MAX_REDIRECTS} times.")

    @contextmanager
    def _open(
        self,
        target: url_target.Target,
        deadline: float,
        method: str = "GET",
        more_headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Iterator[httpcore2.Response]:
        """Sends one request and yields the response, its body unread; a redirect is not followed.

        Raises httpcore's errors, and InvalidRequest for a name with an address that is not allowed.
        """
        backend = pinned_connection.PinnedBackend(self._addresses, deadline, self._idle_seconds)
        headers = [
            ("Host", target.host_header),
            ("User-Agent", f"luthier/{__version__}"),
            ("Accept", "*/*"),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
            *(more_headers or {}).items(),
        ]
        url = httpcore2.URL(
            scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path.encode()
        )
        tls = self._tls or ssl.create_default_context()
        with (
            httpcore2.ConnectionPool(ssl_context=tls, network_backend=backend) as pool,
            pool.stream(method, url, headers=headers, content=body) as answer,
        ):
            yield answer

    def _addresses(self, host: str, port: int, seconds: float) -> list[str]:
        """The addresses to connect to: all that the name has. A lookup may take so many `seconds`.

        Raises InvalidRequest if one of them may not be reached, and in the same words if there is none: a caller cannot
        probe which names exist inside. Raises httpcore2.ConnectTimeout for a lookup that takes longer.
        """
        literal = address_policy.literal(host)
        found = [literal] if literal is not None else _resolve_within(seconds, self._resolve, host, port)
        try:
            taken = bool(found) and all(self._allowed.takes(host, address) for address in found)
        except ValueError:
            taken = False
        if not taken:
            raise _not_public(host)
        return found


def _resolve_within(seconds: float, resolve: Resolve, host: str, port: int) -> list[str]:
    """A name's addresses, empty if it has none. Raises httpcore2.ConnectTimeout for a lookup of more than `seconds`.

    The system's resolver takes no timeout and cannot be interrupted: it runs in a thread, which is then left to end by
    itself.
    """
    answers: SimpleQueue[list[str]] = SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(resolve(host, port))
        except (OSError, UnicodeError):
            answers.put([])

    Thread(target=look_up, name="resolver", daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except Empty:
        raise httpcore2.ConnectTimeout from None


def _check_answer(host: str, answer: httpcore2.Response, max_bytes: int) -> None:
    """Raises InvalidRequest for a status other than 200 or a compressed body, TooLarge by its Content-Length."""
    if answer.status != 200:
        text = f"{host} answered with status {answer.status} instead of the file. Check that the URL is right"
        raise url_target.refused("url_answered_otherwise", f"{text}, has not expired and may be read.")
    headers = {name.lower(): value for name, value in answer.headers}
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise url_target.refused(
            "url_compressed", f"{host} sends the file compressed; store it without a Content-Encoding."
        )
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > max_bytes:
        raise _too_large(max_bytes)


def _read(host: str, answer: httpcore2.Response, max_bytes: int) -> Iterator[bytes]:
    """The chunks of the body. Raises TooLarge once more than `max_bytes` have come, and Unavailable."""
    received = 0
    chunks = answer.iter_stream()
    while True:
        with _luthier_errors(host):  # around the reading alone: what the caller does with a chunk is none of it
            chunk = next(chunks, None)
        if chunk is None:
            return
        received += len(chunk)
        if received > max_bytes:
            raise _too_large(max_bytes)
        yield chunk


def _next_url(url: str, host: str, answer: httpcore2.Response) -> str:
    """The absolute URL that a redirect names. Raises InvalidRequest if it names none."""
    location = next((value for name, value in answer.headers if name.lower() == b"location"), b"")
    try:
        text = location.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise url_target.refused("url_answered_otherwise", f"{host} redirects, and names no URL to go to.")
    # An absolute one stays as it is, byte for byte; urljoin would write some anew.
    return text if url_target.URL.fullmatch(text) else urljoin(url, text)


@contextmanager
def _luthier_errors(host: str) -> Iterator[None]:
    """Turns errors of TCP, TLS and HTTP inside the block into errors that a caller may read: never their inner words.

    InvalidRequest for an invalid certificate, Unavailable for the rest.
    """
    try:
        yield
    except httpcore2.TimeoutException as error:
        raise Unavailable("url_too_slow", f"{host} was too slow: its answer did not come in time.") from error
    except (httpcore2.NetworkError, httpcore2.ProtocolError, OSError) as error:
        if any(isinstance(reason, ssl.SSLCertVerificationError) for reason in error.args):
            raise url_target.refused("url_not_trusted", f"The certificate of {host} is not valid for it.") from error
        raise Unavailable(
            "url_unreachable", f"{host} could not be reached or broke off: the connection failed."
        ) from error


def _not_public(host: str) -> InvalidRequest:
    """The error for a host that may not be reached; what its addresses are is not told."""
    return url_target.refused(
        "url_not_allowed",
        f"{host} does not resolve to public addresses alone. The operator can allow a private host or network by "
        "LUTHIER_IMPORT_ALLOW.",
    )


def _too_large(max_bytes: int) -> TooLarge:
    """The error for a file beyond the limit, which it names in MiB."""
    return TooLarge("file_too_large", f"The file is larger than {max_bytes // 2**20} MiB.", "content_url")
