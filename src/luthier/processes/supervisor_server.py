"""The address of `luthier supervise`, if the settings name one: a small HTTP server on the process's event loop."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn

from luthier.api import supervisor_health
from luthier.api.http import connection_limits, listening
from luthier.api.http.connection_limits import ConnectionGate
from luthier.core.errors import Conflict
from luthier.processes.shared_parts import SharedParts
from luthier.service.leasing.supervisor_standing import SupervisorStanding
from luthier.service.service_metrics import ServiceMetrics

_CONNECTIONS = 64
_STOP_S = 1


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: `luthier supervise` has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield


def bound(address: tuple[str, int]) -> socket.socket:
    """A socket that listens at host and port. Raises Conflict if that is not possible."""
    host, port = address
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        text = f"Cannot listen on LUTHIER_SUPERVISE_LISTEN, port {port} of {host}: {error.strerror}."
        raise Conflict("cannot_listen", text) from error


@contextlib.asynccontextmanager
async def answering(
    shared: SharedParts, listener: socket.socket | None, metrics: ServiceMetrics, standing: SupervisorStanding
) -> AsyncIterator[None]:
    """Answers at the socket while the block lasts; does nothing without one."""
    if listener is None:
        yield
        return
    standing.register(metrics.registry)
    app = supervisor_health.build(shared.context, metrics, lambda: standing.fencing_token)
    gate = ConnectionGate(connection_limits.Limits(connections=_CONNECTIONS, per_address=_CONNECTIONS))
    server = _Server(listening.config(app, gate, lifespan="off", timeout_graceful_shutdown=_STOP_S))
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving
