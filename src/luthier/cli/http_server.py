"""The service's HTTP server: uvicorn with our connection limits and callbacks at its start and stop.
`serve` runs it.
"""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Callable
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from luthier.api.http import connection_limits, listening
from luthier.api.http.connection_limits import ConnectionGate
from luthier.api.http.tls import Certificate
from luthier.settings import Settings

logger = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.001


class Server(uvicorn.Server):
    """uvicorn that calls back with its port once it answers, and exits with 0 on SIGTERM and SIGINT. With TLS, SIGHUP
    reloads the certificate.
    """

    def __init__(
        self,
        api: ASGIApp,
        begin_stop: Callable[[], None],
        settings: Settings,
        on_started: Callable[[int], None],
    ) -> None:
        """Raises the process's limit of file descriptors; binds nothing. `begin_stop` is called as the server shuts
        down, `on_started` with the port once it is bound, both on the event loop.

        Raises ValueError, which names the file, for a certificate or key that cannot be used.
        """
        self._certificate = _certificate(settings)
        limits = listening.fitting(_connection_limits(settings), listening.raise_descriptor_limit())
        self._gate = ConnectionGate(limits)
        super().__init__(
            listening.config(
                api,
                self._gate,
                self._certificate,
                forwarded_allow_ips=settings.trusted_proxies,
                host=settings.host,
                port=settings.port,
                timeout_graceful_shutdown=cast(int, settings.stop_grace_s),  # what waits for it takes parts of seconds
            )
        )
        self._begin_stop = begin_stop
        self._on_started = on_started
        self._reserve: listening.DescriptorReserve | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, which binds the sockets; then installs a spare file descriptor and the handler of SIGHUP, and
        calls `on_started`. Raises SystemExit if the port cannot be bound.
        """
        await super().startup(sockets)
        if not self.should_exit:
            bound = [listener for server in self.servers for listener in server.sockets]
            self._reserve = listening.DescriptorReserve(self._gate, bound, self._certificate is not None)
            loop = asyncio.get_running_loop()
            self._reserve.install(loop)
            if self._certificate is not None:
                loop.add_signal_handler(signal.SIGHUP, self._begin_reload, self._certificate)
            # With port 0 the system chose one: the socket knows it, the settings do not.
            self._on_started(bound[0].getsockname()[1])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, which waits for open requests for `stop_grace_s` seconds; asks the service to stop first."""
        self._begin_stop()
        if self._reserve is not None:
            self._reserve.close()
        await super().shutdown(sockets)

    def _begin_reload(self, certificate: Certificate) -> None:
        """On SIGHUP: reloads the certificate in a worker thread. New connections use it; open ones keep theirs."""
        asyncio.get_running_loop().run_in_executor(None, _reload, certificate)

    def serve_until_stopped(self) -> None:
        """Serves on this thread until a signal stops it. Changes the process: its signal handlers, the interpreter's
        switch interval, and a limit on log lines. Raises SystemExit if the port cannot be bound.
        """
        # uvicorn raises the signal again once it has shut down: it is ignored.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        # The event loop gets the interpreter back from threads that compute (files are read beside it) after 1 ms
        # instead of 5: with several of them, health would answer after a tenth of a second.
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        listening.limit_logs()
        self.run()


def _certificate(settings: Settings) -> Certificate | None:
    """The certificate for https, with warnings about it in the log; None, for plain http, if certificate or key is
    unset. Raises ValueError for a pair that cannot be used.
    """
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    certificate = Certificate(settings.tls_cert, settings.tls_key)
    for warning in certificate.warnings():
        logger.warning("%s", warning)
    return certificate


def _reload(certificate: Certificate) -> None:
    """Loads the certificate's files again and logs the outcome; files that cannot be used leave the old one in use."""
    try:
        certificate.reload()
    except ValueError as error:
        logger.error("SIGHUP: the certificate was not loaded, the old one stays: %s", error)
        return
    logger.warning("SIGHUP: the certificate was loaded again")
    for warning in certificate.warnings():
        logger.warning("%s", warning)


def _connection_limits(settings: Settings) -> connection_limits.Limits:
    """The limits that the settings have, in the form that the server takes; all times are seconds."""
    return connection_limits.Limits(
        connections=settings.connections,
        per_address=settings.connections_per_address,
        head_s=settings.header_timeout_s,
        idle_s=settings.idle_timeout_s,
        write_s=settings.write_timeout_s,
    )
