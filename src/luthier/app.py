"""The composition root: Settings to a running service.

With `data_folder.py` and `serving_engines.py` it knows which implementations exist. `luthier serve` calls `build` and
serves the FastAPI application of the result.
"""

import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from luthier import data_folder, serving_engines
from luthier.api import server
from luthier.api.intake import body_limits
from luthier.api.intake.body_limits import Intake
from luthier.api.routes.inference.batch_lines import BatchLines
from luthier.api.services import Services
from luthier.api.streaming.event_feed import EventFeed
from luthier.core.models import Resource
from luthier.core.ports import SpanSource
from luthier.engines.choice import ChosenEngine
from luthier.engines.exports.export_process import ExportProcess
from luthier.engines.parity import check_parity
from luthier.executors.local import LocalExecutor
from luthier.grammars.grammar_checker import GrammarChecker
from luthier.portal import portal_app
from luthier.process import private_folder
from luthier.process.folder_lock import FolderLock
from luthier.service.background import installation
from luthier.service.background.export_worker import ExportWorker
from luthier.service.background.sink_worker import SinkWorker
from luthier.service.background.supervisor import Supervisor
from luthier.service.background.webhook_worker import WebhookWorker
from luthier.service.batches.runner import BatchRunner
from luthier.service.context import Context
from luthier.service.models.deployment_expiry import Lifetimes
from luthier.service.models.serving import Serving
from luthier.service.service_metrics import ServiceMetrics
from luthier.service.steady_clock import SettledClock
from luthier.service.tenants import keys
from luthier.service.tenants.rate_limits import RateLimits
from luthier.settings import Settings
from luthier.store import db
from luthier.store.db import Database
from luthier.trackers import tracker_choice

logger = logging.getLogger(__name__)

CLIENTS_KEY_VARIABLE = "LUTHIER_API_KEY"
"""The key that clients send. The service never uses it as its own."""


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that `luthier serve` runs, assembled and not yet started."""

    api: FastAPI
    supervisor: Supervisor
    resource: Resource
    new_key: str | None
    """Key1 of the default resource if this start has created it."""
    event_feed: EventFeed
    lock: FolderLock
    base_models: tuple[str, ...]
    """Those that are pulled, at the start."""

    def begin_stop(self) -> None:
        """Ends the open event streams and asks the trainers to exit, so that connections can close; returns at once.

        The HTTP server calls it when it is asked to stop; the application's lifespan then waits for the end of all
        parts.
        """
        self.supervisor.begin_stop()
        self.event_feed.close()


@dataclass(frozen=True, slots=True)
class _Parts:
    """What runs beside the requests, from before the first to after the last."""

    services: Services
    supervisor: Supervisor
    exporter: ExportWorker
    webhooks: WebhookWorker
    batch_runner: BatchRunner
    sinks: Sequence[SinkWorker]
    engine: ChosenEngine
    lock: FolderLock

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Starts whatever works beside the requests, before the first of them: also what was open before a restart.

        After the last one it ends all parts, the database and the lock last. What fails is logged, and raised to the
        HTTP server.
        """
        services = self.services
        try:
            self.supervisor.start()
            self.exporter.start()
            self.webhooks.start()
            for sink in self.sinks:
                sink.start()
            services.grammars.start()
            self.batch_runner.start(BatchLines(services))
            await server.resume(app)
            yield
            await server.end(app)
            await self.batch_runner.stop()
            await services.calls.close()
            self.exporter.begin_stop()
            for sink in self.sinks:
                sink.begin_stop()
            await run_in_threadpool(self.supervisor.stop)
            await run_in_threadpool(self.exporter.stop)
            await run_in_threadpool(self.webhooks.stop)
            for sink in self.sinks:
                await run_in_threadpool(sink.stop)
            closing = (self.engine.close, services.grammars.close, services.context.database.close, self.lock.release)
            for close in closing:
                close()
            if services.spans is not None:
                await run_in_threadpool(services.spans.close)
        except Exception:
            # The server would log the traceback as text, which the log redacts; here it is an exception.
            logger.exception("start or stop failed")
            raise


@dataclass(frozen=True, slots=True)
class Clocks:
    """The wall clock, and a monotonic one: seconds since boot."""

    now: Callable[[], datetime]
    steady_s: Callable[[], float]


def build(settings: Settings, clocks: Clocks | None = None) -> Service:
    """Locks the data folder and builds the service; `clocks` default to the machine's. No job or model runs yet.

    Closes Luthier's files in it to other users, creates or migrates the database, writes the blob store's marker and
    key1's file. Raises ValueError for an invalid catalog or setting, OSError for a folder without access, and
    LuthierError for a folder in use, a database of a newer version, a key that cannot be key1, and a blob store that is
    not this database's. After an error nothing is locked or open.
    """
    address = f"{settings.scheme}://{settings.host}:{settings.port}" if settings.port else None
    with ExitStack() as undone:
        lock = data_folder.lock(settings, "luthier serve", address)
        undone.callback(lock.release)
        for words in private_folder.restrict(settings.data_dir):
            logger.warning("%s", words)
        database = db.open_database(settings.data_dir / data_folder.DATABASE)
        undone.callback(database.close)
        service = _build(settings, lock, database, clocks or Clocks(data_folder.utc_now, _steady_s))
        undone.pop_all()
    return service


def _build(settings: Settings, lock: FolderLock, database: Database, clocks: Clocks) -> Service:
    """Connects the parts; touches key1 and the blob store. The caller closes lock and database if it raises."""
    spans, metrics = _spans(settings), ServiceMetrics()
    context = replace(_server_context(settings, database, clocks), observe_step=metrics.observe_step)
    new_key = _prepare_key(context, settings)
    engine = serving_engines.build_engine(settings)
    serving = Serving(context, engine, check_parity)
    grammars = GrammarChecker()
    executor = LocalExecutor(device=settings.train_device, jobs=settings.train_jobs)
    supervisor = Supervisor(
        context,
        executor,
        serving,
        settings.tick_s,
        settings.threads_of_a_trainer,
        settings.save_interval_s,
        _lifetimes(settings),
        timedelta(days=settings.lost_and_found_days),
    )
    executor.wake_at_exits(supervisor.wake)
    calls = serving_engines.engine_calls(settings)
    exporter = _build_exporter(context, settings)
    webhooks = WebhookWorker(context, settings.tick_s)
    batch_runner = BatchRunner(context, settings.serve_slots)
    sinks = [SinkWorker(context, sink, settings.tick_s) for sink in tracker_choice.sinks(context.tracking)]
    services = Services(
        context,
        serving,
        supervisor.wake,
        RateLimits(settings.capacity_tokens, settings.model_tokens),
        intake=_intake(settings),
        grammars=grammars,
        results_as=settings.openai_results,
        calls=calls,
        train_device=settings.train_device,
        wake_batches=batch_runner.wake,
        metrics=metrics,
        spans=spans,
        lifetimes=_lifetimes(settings),
    )
    parts = _Parts(services, supervisor, exporter, webhooks, batch_runner, sinks, engine, lock)
    api = server.build(services, parts.lifespan, portal_app.build(services))
    return Service(
        api, supervisor, keys.DEFAULT_RESOURCE, new_key, services.event_feed, lock, tuple(_pulled_base_models(context))
    )


def _server_context(settings: Settings, database: Database, clocks: Clocks) -> Context:
    """The context for the process that serves: blob store claimed, partial puts deleted, clock for deletions set.

    Raises Conflict for a store of another installation and Unavailable for one that cannot be reached at the first
    start.
    """
    store = data_folder.make_store(settings)
    own = data_folder.claim(database, data_folder.store_location(settings, store), clocks.now())
    context = data_folder.make_context(settings, database, store, own, clocks.now)
    if context.blobs_are_own:
        store.within(own.blob_prefix or "").delete_partial_puts(installation.FOLDERS)
    settled = SettledClock(clocks.now, clocks.steady_s, own.settled_at, own.unsettled_s)
    return replace(context, settled=settled, steady_s=clocks.steady_s)


def _build_exporter(context: Context, settings: Settings) -> ExportWorker:
    """The worker that has exports made, each in a process of its own; nothing starts."""
    keep = timedelta(hours=settings.export_hours)
    return ExportWorker(context, ExportProcess(threads=settings.serve_threads), keep, settings.tick_s)


def _spans(settings: Settings) -> SpanSource | None:
    """Where spans begin, if traces are on; nothing of OpenTelemetry's SDK is imported otherwise.

    Raises ValueError if the SDK is not installed, or one of its variables cannot be read.
    """
    if not settings.traces:
        return None
    try:
        from luthier.otlp.otlp_spans import OtlpSpans
    except ModuleNotFoundError as error:
        text = f"LUTHIER_TRACES needs {error.name}, which is not installed. Run: pip install 'luthier[otel]'"
        raise ValueError(text) from error
    return OtlpSpans()


def _prepare_key(context: Context, settings: Settings) -> str | None:
    """Makes sure that key1 of the default resource exists; returns its text if this start created it, else None.

    Writes the key's file, and its hash in the database. Raises Conflict if LUTHIER_API_KEY is another key and
    LUTHIER_SERVER_KEY is not set; InvalidRequest or Conflict for a LUTHIER_SERVER_KEY that cannot be key1.
    """
    configured = settings.server_key.get_secret_value() if settings.server_key else None
    if configured is None and (clients := os.environ.get(CLIENTS_KEY_VARIABLE)):
        keys.refuse_clients_key(context, clients)
    is_first = configured is None and not settings.key_file.exists()
    key = keys.prepare_default(context, settings.key_file, configured)
    return key if is_first else None


def _lifetimes(settings: Settings) -> Lifetimes:
    """After how long deployments are deleted, from hours and days; zero means never, as in the settings."""
    return Lifetimes(
        timedelta(hours=settings.developer_deployment_hours), timedelta(days=settings.idle_deployment_days)
    )


def _pulled_base_models(context: Context) -> list[str]:
    """Names of the base models whose folder on this machine is complete, looked up on disk now."""
    return [name for name in context.catalog.entries if context.is_ready(name)]


def _steady_s() -> float:
    """Seconds since boot, with time in suspend if the system counts it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


def _intake(settings: Settings) -> Intake:
    """The limits on request bodies that arrive at once, from the settings."""
    return Intake(
        body_limits.BodyLimits(
            idle_s=settings.body_timeout_s,
            grace_s=settings.body_grace_s,
            min_bytes_per_s=settings.body_min_rate,
            uploads=settings.uploads,
            uploads_per_key=settings.uploads_per_key,
            held_bytes=settings.held_body_mib * body_limits.MIB,
        )
    )
