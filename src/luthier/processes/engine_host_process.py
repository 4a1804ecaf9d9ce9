"""The process of `luthier engine-host`: engines, their queues, and the row by which API processes find it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.applications import Starlette

from luthier import serving_engines
from luthier.core.errors import LuthierError
from luthier.core.inference.engine_hosts import EngineHost
from luthier.engine_host import host_app
from luthier.engine_host.operations import HostOperations
from luthier.engines.parity import check_parity
from luthier.processes import api_parts, shared_parts
from luthier.processes.shared_parts import SharedParts
from luthier.service.models import serving
from luthier.service.models.serving import Serving
from luthier.service.service_metrics import ServiceMetrics
from luthier.settings import Settings
from luthier.store.queries.leasing import engine_hosts

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineHostProcess:
    """A host, assembled: `app` serves from `register` to `leave`."""

    shared: SharedParts
    app: Starlette

    def register(self, url: str) -> None:
        """Makes this host known under its URL: from then on it is asked. Raises NoSpace and Unavailable."""
        host = EngineHost(url, self.shared.own.lease.name, self.shared.settings.serve_slots)
        with self.shared.database.writing() as tx:
            engine_hosts.put(tx, host)

    def leave(self) -> None:
        """Has nobody ask this host any more; if that cannot be written, its lease ends soon."""
        try:
            with self.shared.database.writing() as tx:
                engine_hosts.remove(tx, self.shared.own.lease.name)
        except LuthierError as error:
            logger.warning("engine host not removed code=%s: its lease ends by itself", error.code)


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

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        """Keeps the process's lease; at the end closes calls, engines and the data folder, in this order."""
        shared.own.start()
        await asyncio.to_thread(serving.remove_gone, shared.context)
        yield
        await calls.close()
        await asyncio.to_thread(engine.close)
        await asyncio.to_thread(shared.close)

    operations = HostOperations(shared.context, served, calls)
    app = host_app.build(operations, api_parts.engine_host_key(shared), metrics.text, lifespan)
    return EngineHostProcess(shared, app)
