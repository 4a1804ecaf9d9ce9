"""A second service as the account that is left, a fake of OpenAI's, and moves from them to the service of the test."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from elsewhere import KEY_THERE, Mover, There, Watched
from openai import OpenAI
from starlette.types import ASGIApp, Receive, Scope, Send

import rows
from fakes import BASE, EchoEngine, ScriptedExecutor, agreeing_parity, train_well
from luthier import blobs
from luthier.api import server
from luthier.api.services import Services
from luthier.moving import addresses, archive, bring, here, plan, source, state
from luthier.moving.bring import Move, Outcome, Watcher
from luthier.moving.plan import Plan, Wishes
from luthier.service import keys
from luthier.service.context import Context
from luthier.service.serving import Serving
from luthier.service.supervisor import Supervisor
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
    own = replace(context, database=db.make(folder / "luthier.db"), blobs=blobs.local(folder / "blobs"))
    own = replace(own, runs_folder=folder / "runs", served_folder=folder / "served")
    keys.prepare_default(own, folder / "api-key", KEY_THERE)
    serving = Serving(own, engine, agreeing_parity)
    apps, url = elsewhere
    answer = server.build(Services(own, serving, lambda: None), None)
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
def move(openai_client: OpenAI, url: str, tmp_path: Path) -> Mover:
    """One run of a move into the service of the test, as the command does it."""

    def run(
        from_: str,
        key: str = KEY_THERE,
        wishes: Wishes = Wishes(),  # noqa: B008 - a frozen value
        api: OpenAI = openai_client,
        version: str | None = None,
        folder: Path = tmp_path,
        watcher: Watcher | None = None,
    ) -> tuple[Plan, Outcome]:
        address = addresses.parse(from_, version)
        path, results = folder / "state.json", folder / "results"
        with source.opened(address, key, max_retries=1) as opened, state.held(path, address.host, url) as known:
            inventory = here.inventory(api, address.host)
            made = plan.make(bring.account(opened), inventory, known, wishes, archive.written(results))
            running = Move(opened, api, known, path, results, watcher or Watched())
            return made, bring.run(running, made, inventory)

    return run
