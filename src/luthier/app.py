"""The composition root: Settings to a running service. The only file that knows which implementations exist."""

import secrets
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import uvicorn
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from luthier import blobs, catalog
from luthier.api import server
from luthier.api.services import Services
from luthier.core.errors import Conflict, NotFound
from luthier.core.models import Resource
from luthier.core.ports import Executor
from luthier.engines.llamacpp import LlamaCppEngine
from luthier.engines.parity import check_parity
from luthier.executors.local import LocalExecutor
from luthier.fetching.addresses import Allowed
from luthier.fetching.guarded import GuardedFetcher
from luthier.service import keys
from luthier.service.context import Context
from luthier.service.jobs import MAX_SEED
from luthier.service.rate_limits import RateLimits
from luthier.service.retirement import Lifetimes
from luthier.service.serving import Serving
from luthier.service.supervisor import Supervisor
from luthier.service.tokens import TokenVerifier
from luthier.settings import Settings
from luthier.store import db
from luthier.store.db import Database

SHUTDOWN_GRACE_S = 10
PATIENT_STOP_S = 600.0
DATABASE = "luthier.db"
HEADER_BUFFER_BYTES = 256 * 1024
"""Beyond it the HTTP parser ends the connection by itself; below, too many headers get an answer in words."""


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that `luthier serve` runs, put together and not yet started."""

    api: FastAPI
    supervisor: Supervisor
    resource: Resource
    key: str


def build(settings: Settings) -> Service:
    """Opens the data folder and builds the service. Raises ValueError for a wrong catalog, OSError for a bad folder."""
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    context = _context(settings, db.make(settings.data_dir / DATABASE))
    key = keys.prepare_default(
        context, settings.key_file, settings.api_key.get_secret_value() if settings.api_key else None
    )
    engine = LlamaCppEngine(
        settings.data_dir.absolute() / "engines",
        context_tokens=settings.serve_context_tokens,
        slots=settings.serve_slots,
        threads=settings.serve_threads,
    )
    serving = Serving(context, engine, check_parity)
    executor = LocalExecutor(device=settings.train_device)
    supervisor = Supervisor(
        context,
        executor,
        serving,
        settings.tick_s,
        settings.train_threads,
        settings.save_interval_s,
        _lifetimes(settings),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        supervisor.start()
        yield
        await run_in_threadpool(supervisor.stop)
        engine.close()
        context.database.close()

    rate_limits = RateLimits(settings.capacity_tokens, settings.model_tokens)
    api = server.build(Services(context, serving, supervisor.wake, rate_limits), lifespan)
    return Service(api, supervisor, keys.DEFAULT_RESOURCE, key)


@contextmanager
def open_data(settings: Settings) -> Iterator[Context]:
    """The data folder of a service as it is, to read from, also while it runs. Raises NotFound where there is none."""
    path = settings.data_dir / DATABASE
    if not path.exists():
        raise NotFound(
            "no_data_folder",
            f"{settings.data_dir} is not the data folder of a service. LUTHIER_DATA_DIR or --data-dir names it.",
        )
    context = _context(settings, db.Database(path), alone=False)
    try:
        if not context.database.is_newest():
            raise Conflict(
                "other_version",
                f"{path} is of another version of Luthier. Start `luthier serve` of this version on it once.",
            )
        yield context
    finally:
        context.database.close()


def patient_executor() -> Executor:
    """For commands that wait for a run themselves: whoever stops one can wait for the end of a long step."""
    return LocalExecutor(stop_grace_s=PATIENT_STOP_S, device=Settings().train_device)


def _lifetimes(settings: Settings) -> Lifetimes:
    return Lifetimes(
        timedelta(hours=settings.developer_deployment_hours), timedelta(days=settings.idle_deployment_days)
    )


def _context(settings: Settings, database: Database, *, alone: bool = True) -> Context:
    folder = settings.data_dir / "blobs"
    return Context(
        database=database,
        blobs=blobs.by_url(settings.blobs_url) if settings.blobs_url else blobs.local(folder, alone=alone),
        catalog=catalog.load(settings.catalog),
        data_folder=settings.data_dir.absolute(),
        models_folder=settings.models_folder.absolute(),
        runs_folder=settings.data_dir.absolute() / "runs",
        served_folder=settings.data_dir.absolute() / "served",
        now=_now,
        new_hex=lambda: secrets.token_hex(16),
        new_seed=lambda: secrets.randbelow(MAX_SEED + 1),
        fetcher=GuardedFetcher(_allowed(settings.import_allow), allow_http=settings.import_http),
        upload_expiry_s=settings.upload_expiry_s,
        price=settings.price,
        tokens=_tokens(settings),
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _tokens(settings: Settings) -> TokenVerifier | None:
    if settings.oidc_issuer is None or settings.oidc_audience is None:
        return None
    return TokenVerifier(
        settings.oidc_issuer, settings.oidc_audience, settings.oidc_role_claim, settings.oidc_resource_claim, _now
    )


def _allowed(text: str) -> Allowed:
    try:
        return Allowed.parse(text)
    except ValueError as error:
        raise ValueError(f"LUTHIER_IMPORT_ALLOW: {error}") from error


class Server(uvicorn.Server):
    """uvicorn that tells when it answers, and at which port, and that ends with status 0 on SIGTERM and SIGINT."""

    def __init__(self, service: Service, settings: Settings, on_started: Callable[[int], None]) -> None:
        super().__init__(
            uvicorn.Config(
                service.api,
                host=settings.host,
                port=settings.port,
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=SHUTDOWN_GRACE_S,
                server_header=False,
                h11_max_incomplete_event_size=HEADER_BUFFER_BYTES,
            )
        )
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if not self.should_exit:
            # With port 0 the system chose one: the socket knows it, the settings do not.
            self._on_started(self.servers[0].sockets[0].getsockname()[1])

    def serve_until_stopped(self) -> None:
        # uvicorn raises the signal again once it has shut down; by then it has nothing left to say.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        self.run()
