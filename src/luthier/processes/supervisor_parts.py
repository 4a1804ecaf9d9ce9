"""What must exist once in an installation: the supervisor, housekeeping, exports, webhooks, sinks and batches.

All of it works on a context whose database, blob store and executor refuse to act once another process has the lease.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from luthier.core.errors import Conflict
from luthier.engines.exports.export_process import ExportProcess
from luthier.executors.local import LocalExecutor
from luthier.process import process_identity
from luthier.processes import run_executor, shared_parts
from luthier.processes.shared_parts import SharedParts
from luthier.service.background.export_worker import ExportWorker
from luthier.service.background.sink_worker import SinkWorker
from luthier.service.background.supervisor import Supervisor
from luthier.service.background.webhook_worker import WebhookWorker
from luthier.service.batches.line_calls import LineCalls
from luthier.service.batches.runner import BatchRunner
from luthier.service.context import Context
from luthier.service.leasing import lease_keeper
from luthier.service.leasing.fenced_ports import FencedBlobs, FencedExecutor
from luthier.service.leasing.lease_keeper import LeaseKeeper
from luthier.service.models.serving_port import ServedModels
from luthier.service.service_metrics import ServiceMetrics
from luthier.settings import Settings
from luthier.store.fencing.fenced_database import FencedDatabase
from luthier.store.queries.leasing.leases import Lease
from luthier.trackers import tracker_choice


@dataclass(frozen=True, slots=True)
class SupervisorParts:
    """The work of the lease's holder; `context` is the fenced one."""

    context: Context
    keeper: LeaseKeeper
    supervisor: Supervisor
    exporter: ExportWorker
    webhooks: WebhookWorker
    batch_runner: BatchRunner
    sinks: Sequence[SinkWorker]

    def start(self, calls: LineCalls) -> None:
        """Starts all of it, on the running event loop; batches ask models through `calls`."""
        self.keeper.start()
        self.supervisor.start()
        self.exporter.start()
        self.webhooks.start()
        for sink in self.sinks:
            sink.start()
        self.batch_runner.start(calls)

    async def stop_batches(self) -> None:
        """Ends the batches: before the calls of engines are closed."""
        await self.batch_runner.stop()

    async def stop(self) -> None:
        """Ends all the rest, trainers after their step, and the lease last: the next holder need not wait."""
        self.exporter.begin_stop()
        for sink in self.sinks:
            sink.begin_stop()
        await asyncio.to_thread(self.supervisor.stop)
        await asyncio.to_thread(self.exporter.stop)
        await asyncio.to_thread(self.webhooks.stop)
        for sink in self.sinks:
            await asyncio.to_thread(sink.stop)
        await asyncio.to_thread(self.keeper.stop)


def take_lease(shared: SharedParts) -> Lease | None:
    """The supervisor's lease for this process; None while another process holds it."""
    holder, ttl_s = shared.own.lease.holder, shared.settings.lease_s
    return lease_keeper.take(shared.database, lease_keeper.SUPERVISOR, holder, ttl_s, shared.is_alone)


def is_held(shared: SharedParts) -> bool:
    """Whether some process is the supervisor now, as far as its lease tells."""
    held = lease_keeper.look(shared.database, lease_keeper.SUPERVISOR)
    return held is not None and not held.is_over and not process_identity.has_ended(held.lease.holder)


def holder_words(shared: SharedParts) -> str:
    """Which process holds the supervisor's lease, for messages to the operator."""
    held = lease_keeper.look(shared.database, lease_keeper.SUPERVISOR)
    return "nobody" if held is None else process_identity.words(held.lease.holder)


def refused(shared: SharedParts) -> Conflict:
    """The error of a `luthier serve` beside a supervisor in a process of its own."""
    text = (
        f"The supervisor of this installation is {holder_words(shared)}. Start API processes beside it by `luthier "
        "serve --no-supervisor` or LUTHIER_SUPERVISOR=false, or stop that one first."
    )
    return Conflict("supervisor_running", text)


def build(shared: SharedParts, lease: Lease, serving: ServedModels, metrics: ServiceMetrics) -> SupervisorParts:
    """Connects the parts; nothing starts."""
    settings = shared.settings
    fenced = FencedDatabase(shared.database, lease)
    context = replace(
        shared.context,
        database=fenced,
        blobs=FencedBlobs(shared.context.blobs, fenced.check),
        observe_step=metrics.observe_step,
    )
    executor = run_executor.build(settings, shared.context.blobs)
    supervisor = Supervisor(
        context,
        FencedExecutor(executor, fenced.check),
        serving,
        settings.tick_s,
        settings.threads_of_a_trainer,
        settings.save_interval_s,
        shared_parts.lifetimes(settings),
        timedelta(days=settings.lost_and_found_days),
        settings.rank_plan,
    )
    if isinstance(executor, LocalExecutor):
        executor.wake_at_exits(supervisor.wake)
    return SupervisorParts(
        context,
        LeaseKeeper(shared.database, lease, settings.lease_s, shared_parts.exit_superseded),
        supervisor,
        _exporter(context, settings),
        WebhookWorker(context, settings.tick_s),
        BatchRunner(context, settings.serve_slots),
        [SinkWorker(context, sink, settings.tick_s) for sink in tracker_choice.sinks(context.tracking)],
    )


def _exporter(context: Context, settings: Settings) -> ExportWorker:
    """The worker that has exports made, each in a process of its own; nothing starts."""
    keep = timedelta(hours=settings.export_hours)
    return ExportWorker(context, ExportProcess(threads=settings.serve_threads), keep, settings.tick_s)
