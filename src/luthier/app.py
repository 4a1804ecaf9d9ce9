"""The composition root: Settings to a running service.

With `data_folder.py`, `serving_engines.py` and `processes/` it knows which implementations exist. `luthier serve` calls
`build` and serves the FastAPI application of the result; `luthier supervise` calls `build_supervisor`.
"""

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from luthier.api import server
from luthier.api.routes.inference.batch_lines import BatchLines
from luthier.api.services import Services
from luthier.api.streaming.event_feed import EventFeed
from luthier.core.models import Resource
from luthier.portal import portal_app
from luthier.process.folder_lock import FolderLock
from luthier.processes import api_parts, shared_parts, supervisor_parts, supervisor_server
from luthier.processes.api_parts import Engines, Wakes
from luthier.processes.shared_parts import Clocks, SharedParts
from luthier.processes.supervisor_parts import SupervisorParts
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.tenants import keys
from luthier.settings import Settings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that `luthier serve` runs, assembled and not yet started."""

    api: FastAPI
    supervision: SupervisorParts | None
    """What must exist once; None in a process that leaves it to `luthier supervise`."""
    resource: Resource
    new_key: str | None
    """Key1 of the default resource if this start has created it."""
    event_feed: EventFeed
    lock: FolderLock
    base_models: tuple[str, ...]
    """Those that are pulled, at the start."""

    @property
    def supervisor(self) -> Supervisor:
        """The supervisor of a process that has one."""
        assert self.supervision is not None
        return self.supervision.supervisor

    def begin_stop(self) -> None:
        """Ends the open event streams and asks the trainers to exit, so that connections can close; returns at once.

        The HTTP server calls it when it is asked to stop; the application's lifespan then waits for the end of all
        parts.
        """
        if self.supervision is not None:
            self.supervision.supervisor.begin_stop()
        self.event_feed.close()


@dataclass(frozen=True, slots=True)
class _Parts:
    """What runs beside the requests, from before the first to after the last."""

    shared: SharedParts
    engines: Engines
    services: Services
    supervision: SupervisorParts | None

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Starts whatever works beside the requests, before the first of them: also what was open before a restart.

        After the last one it ends all parts, the database and the lock last. What fails is logged, and raised to the
        HTTP server.
        """
        services, supervision = self.services, self.supervision
        try:
            grant_keeper = api_parts.build_grant_keeper(services)
            if not self.shared.is_alone:  # else nobody asks whether this process lives
                self.shared.own.start()
                grant_keeper.start()
            if supervision is not None:
                supervision.start(BatchLines(services))
            services.grammars.start()
            await server.resume(app)
            yield
            await server.end(app)
            if supervision is not None:
                await supervision.stop_batches()
            await services.calls.close()
            if supervision is not None:
                await supervision.stop()
            grant_keeper.stop()
            for close in (self.engines.close, services.grammars.close, self.shared.close):
                close()
            if services.spans is not None:
                await run_in_threadpool(services.spans.close)
        except Exception:
            # The server would log the traceback as text, which the log redacts; here it is an exception.
            logger.exception("start or stop failed")
            raise


def build(settings: Settings, clocks: Clocks | None = None) -> Service:
    """Locks the data folder and builds the service; `clocks` default to the machine's. No job or model runs yet.

    Raises as `shared_parts.open_shared`, and Conflict if another process is the supervisor, unless the settings say
    that this one shall be none: then it shares the folder with others like it.
    """
    address = f"{settings.scheme}://{settings.host}:{settings.port}" if settings.port else None
    shared = shared_parts.open_shared(settings, "luthier serve", address, clocks, not settings.supervisor)
    with ExitStack() as undone:
        undone.callback(shared.close)
        service = _build(shared)
        undone.pop_all()
    return service


def build_supervisor(settings: Settings, clocks: Clocks | None = None) -> SharedParts:
    """What `processes.supervise_process` works on: the data folder, shared with API processes. Raises as `build`."""
    return shared_parts.open_shared(settings, "luthier supervise", None, clocks, shares_folder=True)


def supervisor_socket(settings: Settings) -> socket.socket | None:
    """Where `luthier supervise` answers, listening already; None for nowhere. Raises Conflict for a port in use."""
    address = settings.supervise_address
    return None if address is None else supervisor_server.bound(address)


def _build(shared: SharedParts) -> Service:
    """Connects the parts. The caller closes `shared` if it raises."""
    engines = api_parts.build_engines(shared)
    supervision = None
    wakes = Wakes()
    if shared.settings.supervisor:
        lease = supervisor_parts.take_lease(shared)
        if lease is None:
            raise supervisor_parts.refused(shared)
        supervision = supervisor_parts.build(shared, lease, engines.serving, engines.metrics)
        wakes = Wakes(supervision.supervisor.wake, supervision.batch_runner.wake)
    elif not supervisor_parts.is_held(shared):
        logger.warning("no supervisor runs: jobs, deployments and batches wait for luthier supervise")
    services = api_parts.build_services(shared, engines, wakes)
    parts = _Parts(shared, engines, services, supervision)
    api = server.build(services, parts.lifespan, portal_app.build(services))
    base_models = tuple(_pulled_base_models(shared.context))
    feed = services.event_feed
    return Service(api, supervision, keys.DEFAULT_RESOURCE, shared.new_key, feed, shared.lock, base_models)


def _pulled_base_models(context: Context) -> list[str]:
    """Names of the base models whose folder on this machine is complete, looked up on disk now."""
    return [name for name in context.catalog.entries if context.is_ready(name)]


__all__ = ["Clocks", "Service", "build", "build_supervisor", "supervisor_socket"]
