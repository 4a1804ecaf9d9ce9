"""A second service as the source account, a fake of OpenAI's, and imports from them into the service of the test."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from openai import OpenAI
from starlette.types import ASGIApp, Receive, Scope, Send

import rows
from elsewhere import KEY_THERE, RunImport, There, Watched
from fakes import BASE, EchoEngine, ScriptedExecutor, agreeing_parity, engine_calls, train_well
from luthier import blobs
from luthier.account_import import (
    account_address,
    destination,
    import_plan,
    import_state,
    importer,
    job_archive,
    source_account,
)
from luthier.account_import.import_plan import ImportOptions, Plan
from luthier.account_import.importer import ImportRun, Outcome, Watcher
from luthier.api import server
from luthier.api.services import Services
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from luthier.service.tenants import keys
from luthier.store import db
from openai_account import FakeAccount


@pytest.fixture(scope="session")
def elsewhere() -> Iterator[tuple[dict[str, ASGIApp], str]]:
    """A second server, which is another application in each test."""
    apps: dict[str, ASGIApp] = {}

    async def present(scope: Scope, receive: Receive, send: Send) -> None:
        await apps["present"](scope, receive, send)

    running = uvicorn.Server(uvicorn.Config(present, port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.005)
    yield apps, f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    running.should_exit = running.force_exit = True
    thread.join()


@pytest.fixture
def there(
    elsewhere: tuple[dict[str, ASGIApp], str], context: Context, engine: EchoEngine, tmp_path: Path
) -> Iterator[There]:
    """Two files and a job that succeeded, all made through its own API."""
    folder = tmp_path / "there"
    folder.mkdir()
    own = replace(context, database=db.open_database(folder / "luthier.db"), blobs=blobs.local(folder / "blobs"))
    own = replace(own, runs_folder=folder / "runs", served_folder=folder / "served")
    keys.prepare_default(own, folder / "api-key", KEY_THERE)
    serving = Serving(own, engine, agreeing_parity)
    apps, url = elsewhere
    answer = server.build(Services(own, serving, lambda: None, calls=engine_calls()), None)
    found = There(url, own, Supervisor(own, ScriptedExecutor(train_well), serving, tick_s=0.01))

    async def recorded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            found.asked.append((scope["method"], scope["path"]))
        await answer(scope, receive, send)

    apps["present"] = recorded
    with OpenAI(base_url=f"{url}/v1", api_key=KEY_THERE, max_retries=0) as client:
        found.files = [
            client.files.create(file=(name, rows.good(n)), purpose="fine-tune").id
            for name, n in (("rows.jsonl", 12), ("held-out.jsonl", 10))
        ]
        job = client.fine_tuning.jobs.create(
            model=BASE,
            training_file=found.files[0],
            validation_file=found.files[1],
            seed=7,
            suffix="clippy",
            metadata={"team": "paper"},
            method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}},
        )
    found.jobs = [job.id]
    for _ in range(4):
        found.supervisor.tick()
    found.asked.clear()
    yield found
    own.database.close()


@pytest.fixture
def account() -> Iterator[FakeAccount]:
    made = FakeAccount()
    yield made
    made.close()


@pytest.fixture
def run_import(openai_client: OpenAI, url: str, tmp_path: Path) -> RunImport:
    """One run of an import into the service of the test, as the command does it."""

    def run(
        from_: str,
        key: str = KEY_THERE,
        options: ImportOptions = ImportOptions(),  # noqa: B008 - a frozen value
        api: OpenAI = openai_client,
        version: str | None = None,
        folder: Path = tmp_path,
        watcher: Watcher | None = None,
    ) -> tuple[Plan, Outcome]:
        address = account_address.parse(from_, version)
        path, results = folder / "state.json", folder / "results"
        with (
            source_account.opened(address, key, max_retries=1) as opened,
            import_state.held(path, address.host, url) as known,
        ):
            inventory = destination.inventory(api, address.host)
            made = import_plan.make_plan(
                importer.read_account(opened), inventory, known, options, job_archive.archived_jobs(results)
            )
            running = ImportRun(opened, api, known, path, results, watcher or Watched())
            return made, importer.run(running, made, inventory)

    return run
