"""Fixtures by topic: a clock of the test's, a service on a real port, clients of every dialect."""

import itertools
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import hypothesis
import pytest
import uvicorn
from fastapi import FastAPI
from openai import AzureOpenAI, OpenAI

import databases
from answers import Witness
from asgi_switch import Switch
from cores import own_cores
from fakes import BASE, KEY, EchoEngine, ScriptedExecutor, agreeing_parity, engine_calls, train_well
from host_in_process import hosted
from luthier import blobs, catalog
from luthier.api import server
from luthier.api.http import connection_limits, listening
from luthier.api.http.connection_limits import ConnectionGate
from luthier.api.openapi import openapi_document
from luthier.api.services import Services
from luthier.core.models import Principal
from luthier.grammars.grammar_checker import GrammarChecker
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from luthier.service.models.serving_port import ServedModels
from luthier.service.scheduling.calls_port import AnswerCalls
from luthier.service.tenants import keys
from luthier.store import db
from luthier.store.db import Database
from luthier.url_fetch.address_policy import Allowed
from luthier.url_fetch.fetcher import GuardedFetcher
from repository import SPEC_FOLDER

# A busy machine is no fault, and a run shows what the one before it showed; --hypothesis-profile default searches anew.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")

# Calls without a time limit of their own have five seconds, which a busy machine takes now and then.
_PATIENCE: httpx2.Timeout = httpx2.get.__kwdefaults__["timeout"]
_PATIENCE.connect = _PATIENCE.read = _PATIENCE.write = _PATIENCE.pool = 60.0

if "PYTEST_XDIST_WORKER" in os.environ:
    # Read when a library first computes: torch in two workers would else wait for one another's threads.
    os.environ.setdefault("OMP_NUM_THREADS", str(own_cores()))


def pytest_report_header() -> str:
    if SPEC_FOLDER.is_dir():
        return f"published schemas: {SPEC_FOLDER}"
    return "published schemas: absent, so answers are checked against our own description only (LUTHIER_SPEC_DIR)"


@dataclass
class Clock:
    """Moves a second with every look, so that orders can be told apart, and by hand."""

    time: datetime = field(default_factory=lambda: datetime(2026, 11, 22, tzinfo=UTC))

    def now(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """A command that runs in the tests' process sets its umask: the next test begins with the one before."""
    before = os.umask(0o077)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with the newest schema and no rows: to copy is forty times as fast as to migrate."""
    path = tmp_path_factory.mktemp("empty") / "luthier.db"
    db.open_database(path).close()
    return path


@pytest.fixture
def database_kind() -> str:
    """`sqlite` or `postgres`; a test of both is parametrized by it."""
    return databases.default_kind()


@pytest.fixture
def database(database_kind: str, tmp_path: Path, empty_database: Path) -> Iterator[Database]:
    """A database of the kind, with the newest schema and no rows."""
    path = tmp_path / "data" / "luthier.db"
    path.parent.mkdir(mode=0o700)
    with databases.opened(database_kind, path, empty_database) as made:
        yield made


@pytest.fixture
def context(tmp_path: Path, database: Database) -> Context:
    numbers = itertools.count(1)
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "models" / BASE).mkdir(parents=True)
    (folder / "models" / BASE / "prepared.json").write_text("{}")
    made = Context(
        database=database,
        blobs=blobs.local(folder / "blobs"),
        catalog=catalog.load(),
        data_folder=folder,
        models_folder=folder / "models",
        runs_folder=folder / "runs",
        served_folder=folder / "served",
        now=Clock().now,
        new_hex=lambda: f"{next(numbers):032x}",
        new_seed=lambda: 170999531,
        fetcher=GuardedFetcher(Allowed()),
    )
    keys.prepare_default(made, folder / "api-key", KEY)
    return made


@pytest.fixture
def caller(context: Context) -> Principal:
    return keys.authenticate(context, [KEY])


@pytest.fixture
def engine() -> Iterator[EchoEngine]:
    made = EchoEngine()
    yield made
    made.close()


@pytest.fixture
def executor() -> ScriptedExecutor:
    return ScriptedExecutor(train_well)


@pytest.fixture
def serving(context: Context, engine: EchoEngine) -> Serving:
    return Serving(context, engine, agreeing_parity)


@pytest.fixture
def supervisor(context: Context, executor: ScriptedExecutor, serving: Serving) -> Supervisor:
    return Supervisor(context, executor, serving, tick_s=0.01)


@pytest.fixture(scope="session")
def switch() -> Iterator[tuple[Switch, str]]:
    made = Switch()
    running = uvicorn.Server(listening.config(made, ConnectionGate(connection_limits.Limits()), port=0, lifespan="off"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.005)
    yield made, f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    running.should_exit = running.force_exit = True
    thread.join()


@pytest.fixture(scope="session")
def described() -> dict[str, dict[str, Any]]:
    """The description of the wire, made once: it is the same in every test."""
    return {}


@pytest.fixture(scope="session")
def grammars() -> Iterator[GrammarChecker]:
    """One process for all tests: what it keeps of a grammar is the same for each."""
    made = GrammarChecker()
    yield made
    made.close()


@pytest.fixture
def url(
    switch: tuple[Switch, str],
    context: Context,
    serving: Serving,
    grammars: GrammarChecker,
    described: dict[str, dict[str, Any]],
) -> Iterator[str]:
    """A real server on a port of the system's choice; its supervisor is the test's own hand.

    Each of its answers must be as our own description and the published schemas say.
    """
    made, address = switch
    served: ServedModels = serving
    calls: AnswerCalls = engine_calls()
    if os.environ.get("LUTHIER_TEST_ENGINES") == "hosts":
        served, calls = hosted(context, serving, engine_calls())
    app = server.build(Services(context, served, lambda: None, grammars=grammars, calls=calls), None)
    if not described:
        described |= openapi_document.document(app)
    made.app = witness = Witness(app, described)
    yield address
    assert not witness.findings, "\n".join(dict.fromkeys(witness.findings))


@pytest.fixture
def app(url: str, switch: tuple[Switch, str]) -> FastAPI:
    """The application behind `url`, for tests that walk over its routes."""
    witness = switch[0].app
    assert isinstance(witness, Witness)
    assert isinstance(witness.app, FastAPI)
    return witness.app


@pytest.fixture
def azure(url: str) -> Iterator[AzureOpenAI]:
    with AzureOpenAI(azure_endpoint=url, api_key=KEY, api_version="2024-10-21", max_retries=0) as client:
        yield client


@pytest.fixture
def azure_v1(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{url}/openai/v1/", api_key=KEY, max_retries=0) as client:
        yield client


@pytest.fixture
def openai_client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, _strict_response_validation=True) as client:
        yield client


@pytest.fixture(scope="session")
def base_folder() -> Path:
    """The embedded base model, prepared; tests that need it are marked `model`."""
    folder = Path(os.environ.get("LUTHIER_MODELS_DIR", ".cache/models")) / BASE
    if not (folder / "prepared.json").exists():
        pytest.skip(f"the embedded base model is not at {folder}: run `make model`")
    return folder.absolute()
