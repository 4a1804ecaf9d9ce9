"""The process of `luthier supervise`: waits for the supervisor's lease, works while it has it, ends in order."""

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import replace

from luthier.api.routes.inference.batch_lines import BatchLines
from luthier.core.errors import LuthierError
from luthier.processes import api_parts, supervisor_parts, supervisor_server
from luthier.processes.api_parts import Wakes
from luthier.processes.shared_parts import SharedParts
from luthier.processes.supervisor_parts import SupervisorParts
from luthier.service.background.batch_watch import BatchWatch
from luthier.service.leasing.supervisor_standing import SupervisorStanding
from luthier.service.service_metrics import ServiceMetrics
from luthier.store.queries.leasing.leases import Lease

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""So often a process that waits looks whether the lease is free."""


async def supervise(
    shared: SharedParts, stopping: asyncio.Event, tell: Callable[[str], None], listener: socket.socket | None = None
) -> None:
    """Supervises until `stopping`; `tell` is given a sentence for the operator at each change. Closes `shared`.

    Answers at `listener` meanwhile. If another process takes the lease over, because this one was paused for too long,
    this process ends at once.
    """
    shared.own.start()
    metrics, standing = ServiceMetrics(), SupervisorStanding()
    try:
        async with supervisor_server.answering(shared, listener, metrics, standing):
            lease = await _wait_for_lease(shared, stopping, tell)
            if lease is not None:
                await _work(shared, lease, stopping, tell, metrics, standing)
    finally:
        await asyncio.to_thread(shared.close)


async def _wait_for_lease(shared: SharedParts, stopping: asyncio.Event, tell: Callable[[str], None]) -> Lease | None:
    """The lease, once nobody else has it; None if this process is to stop before."""
    is_told = False
    while not stopping.is_set():
        try:
            lease = await asyncio.to_thread(supervisor_parts.take_lease, shared)
            if lease is not None:
                return lease
            if not is_told:
                tell(f"Waiting: the supervisor is {await asyncio.to_thread(supervisor_parts.holder_words, shared)}.")
                is_told = True
        except LuthierError as error:  # the database is busy, or its disk full
            logger.warning("lease not taken code=%s", error.code)
        await _pause(stopping, LOOK_S)
    return None


async def _work(
    shared: SharedParts,
    lease: Lease,
    stopping: asyncio.Event,
    tell: Callable[[str], None],
    metrics: ServiceMetrics,
    standing: SupervisorStanding,
) -> None:
    """Runs all parts of the lease's holder until `stopping`; ends them, and the lease."""
    engines = replace(api_parts.build_engines(shared), metrics=metrics)
    parts = supervisor_parts.build(shared, lease, engines.serving, engines.metrics)
    services = api_parts.build_services(shared, engines, Wakes(), parts.context)
    metrics.watch(parts.context, services.calls.n_waiting, engines.serving)
    standing.passes, standing.followed_runs = parts.supervisor.passes, parts.supervisor.followed_runs
    standing.fencing_token = lease.token
    services.grammars.start()
    parts.start(BatchLines(services))
    watching = asyncio.create_task(_watch_batches(parts, shared.settings.tick_s))
    tell(f"Supervising {shared.settings.data_dir}, with fencing token {lease.token}.")
    try:
        await stopping.wait()
    finally:
        watching.cancel()
        parts.supervisor.begin_stop()
        await parts.stop_batches()
        await services.calls.close()
        await parts.stop()
        standing.fencing_token = None
        engines.close()
        services.grammars.close()
        if services.spans is not None:
            await asyncio.to_thread(services.spans.close)


async def _watch_batches(parts: SupervisorParts, tick_s: float) -> None:
    """Wakes the runner of batches once other processes have created or cancelled one: a look at each tick."""
    watch = BatchWatch(parts.context)
    while True:
        if await asyncio.to_thread(watch.has_news):
            parts.batch_runner.wake()
        await asyncio.sleep(tick_s)


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    """Waits so long, or until `stopping`."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return
