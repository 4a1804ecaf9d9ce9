"""TLS of the server: the current certificate, and handshakes that count as connections and have a timeout.

asyncio's own TLS server reports a peer to its protocol only after the handshake: half handshakes would not be counted,
and held for a minute. So a connection is accepted as plain TCP, passed to the gate, and then upgraded to TLS.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from uvicorn.config import Config
from uvicorn.server import ServerState

from luthier.api.http.connection_limits import ConnectionGate
from luthier.api.http.connections import Connection

logger = logging.getLogger(__name__)

_PROTOCOLS = ["http/1.1"]


class Certificate:
    """The certificate and key that new connections get, read from two PEM files.

    Raises ValueError, which names the setting, for files that cannot be read or are no such pair.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert = cert
        self._key = key
        self.context = _context(cert, key)

    def reload(self) -> None:
        """Reads both files again, for new connections. Raises ValueError, and stays unchanged, if they are no pair."""
        self.context = _context(self._cert, self._key)

    def warnings(self) -> list[str]:
        """Warnings for the operator, a sentence each: it has expired, or everyone can access the key.

        Empty if all is well.
        """
        warnings = []
        with suppress(OSError, ValueError):
            expires = x509.load_pem_x509_certificates(self._cert.read_bytes())[0].not_valid_after_utc
            if expires < datetime.now(UTC):
                warnings.append(f"the certificate {self._cert} expired on {expires:%Y-%m-%d}: clients will refuse it")
        with suppress(OSError):
            if self._key.stat().st_mode & 0o007:
                warnings.append(f"every user of this machine can access {self._key}: chmod 600 {self._key}")
        return warnings


def _context(cert: Path, key: Path) -> ssl.SSLContext:
    """A TLS context of version 1.2 or later with the certificate and key of these files. Raises ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(_PROTOCOLS)
    for setting, path in (("tls_cert", cert), ("tls_key", key)):
        try:
            text = path.read_bytes()
        except OSError as error:
            raise ValueError(f"{setting}: {path}: {error.strerror}") from error
        if b"-----BEGIN " not in text:
            raise ValueError(f"{setting}: {path} is no PEM file (it has no line -----BEGIN ...-----)")
        if setting == "tls_key" and b"ENCRYPTED" in text:
            raise ValueError(
                f"{setting}: {path} is encrypted with a passphrase. Write it without one: openssl pkey -in {path}"
            )
    try:
        context.load_cert_chain(cert, key, password=lambda: "")
    except ssl.SSLError as error:
        raise ValueError(_reason(error, cert, key)) from error
    return context


def _reason(error: ssl.SSLError, cert: Path, key: Path) -> str:
    """What is wrong with a pair that OpenSSL refuses to load, as a message for the operator."""
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"tls_key: {key} is not the key of the certificate in {cert}"
    return f"tls_cert, tls_key: {cert} and {key} are no certificate and key in PEM ({error.reason or 'unreadable'})"


class Handshake(asyncio.Protocol):
    """A connection during its TLS handshake, counted by the gate; afterwards a Connection takes its place.

    uvicorn makes one for each TCP connection and keeps it among its connections until the handshake ends.
    """

    def __init__(
        self,
        gate: ConnectionGate,
        certificate: Certificate,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """uvicorn's arguments, kept for the Connection that follows; `gate` and `certificate` are bound before."""
        self._gate = gate
        self._certificate = certificate
        self._connections: set[Any] = server_state.connections
        self._create_connection: Callable[[], Connection] = lambda: Connection(
            gate, config, server_state, app_state, _loop
        )
        self._raw: asyncio.Transport | None = None
        self._early_bytes = b""
        self._task: asyncio.Task[None] | None = None

    @property
    def is_waiting(self) -> bool:
        """It has sent no request yet: a later connection may replace it."""
        return True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Enters the gate and starts the handshake, unless the gate has aborted the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._raw = transport
        peer = transport.get_extra_info("peername")
        # A rejected one is aborted here, or gets its answer after the handshake, from the Connection that follows.
        self._gate.enter(self, peer[0] if peer else "")
        if transport.is_closing():
            return
        self._connections.add(self)
        self._task = asyncio.get_running_loop().create_task(self._complete_handshake(transport))

    def data_received(self, data: bytes) -> None:
        """Keeps what the peer has sent with the end of its handshake."""
        self._early_bytes += data

    def connection_lost(self, exc: Exception | None) -> None:
        """The peer left during the handshake: nothing is left to abort or to upgrade."""
        self._raw = None

    def close_if_overdue(self, now: float) -> None:
        """Does nothing: asyncio has the timeout of handshakes."""

    def abort(self) -> None:
        """Closes the connection at once."""
        if self._raw is not None:
            self._raw.abort()

    def shutdown(self) -> None:
        """The service stops: no request has arrived."""
        self.abort()

    async def _complete_handshake(self, raw: asyncio.Transport) -> None:
        """Runs the handshake within `head_s` seconds, then leaves the gate and lets a new Connection take over.

        That one enters the gate itself, and gets what the peer has sent by then. A failed handshake is logged, and
        asyncio closes its connection.
        """
        limits = self._gate.limits
        try:
            secure = await asyncio.get_running_loop().start_tls(
                raw,
                self,
                self._certificate.context,
                server_side=True,
                ssl_handshake_timeout=limits.head_s,
                ssl_shutdown_timeout=limits.linger_s,
            )
        except OSError as error:
            logger.info("TLS handshake failed: %s", getattr(error, "reason", None) or type(error).__name__)
            return
        finally:
            self._connections.discard(self)
            self._gate.leave(self)
        if self._raw is None or secure is None:
            return
        connection = self._create_connection()
        connection.wire = raw
        secure.set_protocol(connection)
        connection.connection_made(secure)
        if self._early_bytes:
            connection.data_received(self._early_bytes)
