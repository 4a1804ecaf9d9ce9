"""A second service as the account that is left, a fake of OpenAI's, and moves from them to the service of the test."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import uvicorn
from openai import OpenAI
from starlette.types import Receive, Scope, Send

import rows
from account import FakeAccount
from conftest import Switch
from fakes import BASE, EchoEngine, ScriptedExecutor, agreeing_parity, train_well
from luthier import blobs
from luthier.api import server
from luthier.api.services import Services
from luthier.moving import addresses, archive, bring, here, plan, source, state
from luthier.moving.bring import Move, Outcome
from luthier.moving.plan import Plan, Wishes
from luthier.service import keys
from luthier.service.context import Context
from luthier.service.serving import Serving
from luthier.service.supervisor import Supervisor
from luthier.store import db

KEY_THERE = "another-key-fedcba9876543210"


@dataclass
class There:
    """A Luthier that is moved from. `asked` is every request that it got, as method and path."""

    url: str
    context: Context
    supervisor: Supervisor
    asked: list[tuple[str, str]] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    jobs: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def other_switch() -> Iterator[tuple[Switch, str]]:
    made = Switch()
    running = uvicorn.Server(uvicorn.Config(made, port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.005)
    yield made, f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    running.should_exit = running.force_exit = True
    thread.join()


@pytest.fixture
def there(other_switch: tuple[Switch, str], context: Context, engine: EchoEngine, tmp_path: Path) -> Iterator[There]:
    """Two files and a job that succeeded, all made through its own API."""
    folder = tmp_path / "there"
    folder.mkdir()
    own = replace(context, database=db.make(folder / "luthier.db"), blobs=blobs.local(folder / "blobs"))
    own = replace(own, runs_folder=folder / "runs", served_folder=folder / "served")
    keys.prepare_default(own, folder / "api-key", KEY_THERE)
    serving = Serving(own, engine, agreeing_parity)
    made, url = other_switch
    answer = server.build(Services(own, serving, lambda: None), None)
    found = There(url, own, Supervisor(own, ScriptedExecutor(train_well), serving, tick_s=0.01))

    async def recorded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            found.asked.append((scope["method"], scope["path"]))
        await answer(scope, receive, send)

    made.app = recorded
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


class Watched:
    """Hears of a move's steps and keeps them."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def begin(self, what: str, n_bytes: int | None) -> None:
        self.steps.append(what)

    def moved(self, n_bytes: int) -> None:
        pass

    def done(self) -> None:
        pass


Mover = Callable[..., tuple[Plan, Outcome]]


@pytest.fixture
def move(openai_client: OpenAI, url: str, tmp_path: Path) -> Mover:
    """One run of a move into the service of the test, as the command does it."""

    def run(
        from_: str,
        key: str = KEY_THERE,
        wishes: Wishes = Wishes(),  # noqa: B008 - a frozen value
        api: OpenAI = openai_client,
        version: str | None = None,
    ) -> tuple[Plan, Outcome]:
        address = addresses.parse(from_, version)
        path, results = tmp_path / "state.json", tmp_path / "results"
        with source.opened(address, key, max_retries=1) as opened, state.held(path, address.host, url) as known:
            inventory = here.inventory(api, address.host)
            made = plan.make(bring.account(opened), inventory, known, wishes, archive.written(results))
            return made, bring.run(Move(opened, api, known, path, results, Watched()), made, inventory)

    return run
