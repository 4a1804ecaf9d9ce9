"""The process of `luthier engine-host`: engines, their queues, and the row by which API processes find it."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from starlette.applications import Starlette

from luthier import serving_engines
from luthier.core.errors import LuthierError
from luthier.core.inference.engine_hosts import EngineHost
from luthier.engine_host import host_app
from luthier.engine_host.operations import HostOperations
from luthier.engines.parity import check_parity
from luthier.processes import api_parts, shared_parts
from luthier.processes.shared_parts import SharedParts
from luthier.service.models.serving import Serving
from luthier.service.service_metrics import ServiceMetrics
from luthier.settings import Settings
from luthier.store.queries.leasing import engine_hosts

logger = logging.getLogger(__name__)

UPKEEPS_PER_LEASE = 3
HOUSEKEEPING_S = 300.0
"""So often a host looks for models that were deleted while it could not be told."""


@dataclass(slots=True)
class Registration:
    """This host's row: written from `begin` on, again if it is gone, and removed by `leave`. Safe from threads."""

    shared: SharedParts
    host: EngineHost | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, url: str) -> None:
        """Makes this host known under its URL: from then on it is asked. Raises NoSpace and Unavailable."""
        with self._lock:
            self.host = EngineHost(url, self.shared.own.lease.name, self.shared.settings.serve_slots)
            self._put(self.host)

    def keep(self) -> None:
        """Writes the row again if it is gone; that of another process which lives stays, with a warning."""
        with self._lock, suppress(LuthierError):  # the database does not answer: the next time
            if self.host is None:
                return
            with self.shared.database.reading() as tx:
                at_url = next((one for one in engine_hosts.list_living(tx) if one.url == self.host.url), None)
            if at_url is None:
                self._put(self.host)
            elif at_url.process != self.host.process:
                logger.error("another engine host has the URL of this one: %s", self.host.url)

    def leave(self) -> None:
        """Has nobody ask this host any more; if that cannot be written, its lease ends soon."""
        with self._lock:
            self.host = None
            try:
                with self.shared.database.writing() as tx:
                    engine_hosts.remove(tx, self.shared.own.lease.name)
            except LuthierError as error:
                logger.warning("engine host not removed code=%s: its lease ends by itself", error.code)

    def _put(self, host: EngineHost) -> None:
        with self.shared.database.writing() as tx:
            engine_hosts.put(tx, host)


@dataclass(frozen=True, slots=True)
class EngineHostProcess:
    """A host, assembled: `app` serves, and is asked from `registration.begin` on."""

    registration: Registration
    app: Starlette

    def begin_stop(self) -> None:
        """Has nobody ask this host any more, soon: on the event loop, where answers still come."""
        threading.Thread(target=self.registration.leave, name="leave").start()


def build(settings: Settings) -> EngineHostProcess:
    """Opens the data folder, shared with other processes, and connects the parts; no engine starts.

    Raises as `shared_parts.open_shared`, and ValueError for vLLM options that cannot be read.
    """
    shared = shared_parts.open_shared(settings, "luthier engine-host", None, None, shares_folder=True, needs_key=False)
    try:
        return _build(shared)
    except BaseException:
        shared.close()
        raise


def _build(shared: SharedParts) -> EngineHostProcess:
    """Connects the parts. The caller closes `shared` if it raises."""
    engine = serving_engines.build_engine(shared.settings)
    served = Serving(shared.context, engine, check_parity)
    calls = serving_engines.engine_calls(shared.settings)
    metrics = ServiceMetrics()
    metrics.watch(shared.context, calls.n_waiting, served)
    operations = HostOperations(shared.context, served, calls)
    registration = Registration(shared)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        """Keeps lease and row; at the end closes calls, engines and the data folder, in this order."""
        shared.own.start()
        keeping = asyncio.create_task(_keep(registration, shared.settings.lease_s / UPKEEPS_PER_LEASE))
        cleaning = asyncio.create_task(_clean(operations))
        yield
        for task in (keeping, cleaning):
            task.cancel()
        await asyncio.to_thread(registration.leave)
        await calls.close()
        await asyncio.to_thread(engine.close)
        await asyncio.to_thread(shared.close)

    app = host_app.build(operations, api_parts.engine_host_key(shared), metrics.text, lifespan)
    return EngineHostProcess(registration, app)


async def _keep(registration: Registration, interval_s: float) -> None:
    """Looks after the row."""
    while True:
        await asyncio.sleep(interval_s)
        await asyncio.to_thread(registration.keep)


async def _clean(operations: HostOperations) -> None:
    """Forgets models that were deleted: at the start, and then every few minutes."""
    while True:
        try:
            await asyncio.to_thread(operations.forget_gone)
        except (LuthierError, OSError) as error:
            logger.warning("deleted models not looked for: %s", type(error).__name__)
        await asyncio.sleep(HOUSEKEEPING_S)
