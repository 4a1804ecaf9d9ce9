"""An import killed at every step, then resumed: the end is that of an import that nothing disturbed, nothing twice."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import DefaultHttpx2Client, OpenAI

import openai_account as fake
from elsewhere import RunImport, Watched
from fakes import KEY, Killed, engine_calls
from luthier import blobs
from luthier.account_import.import_plan import ImportOptions
from luthier.api import server
from luthier.api.services import Services
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from luthier.service.tenants import keys
from luthier.store import db
from openai_account import FakeAccount

Fresh = Callable[[Path], None]


class Countdown:
    """Dies at the k-th of the moments that it is told of; `died` says at which."""

    def __init__(self, moment: int) -> None:
        self._left, self.died = moment, ""

    def at(self, what: str) -> None:
        self._left -= 1
        if self._left == 0:
            self.died = what
            raise Killed


class Mortal(Watched):
    """A watcher that dies between two steps or in the middle of a file's bytes."""

    def __init__(self, countdown: Countdown) -> None:
        super().__init__()
        self._countdown = countdown

    def begin(self, what: str, n_bytes: int | None) -> None:
        self._countdown.at(f"begin {what}")

    def progress(self, n_bytes: int) -> None:
        self._countdown.at(f"progress {n_bytes}")

    def done(self) -> None:
        self._countdown.at("done")


@pytest.fixture
def fresh(switch: tuple[Any, str], context: Context, serving: Serving) -> Iterator[Fresh]:
    """Makes the service of the test an empty one."""
    made: list[Context] = []

    def build(folder: Path) -> None:
        folder.mkdir()
        own = replace(context, database=db.open_database(folder / "luthier.db"), blobs=blobs.local(folder / "blobs"))
        keys.prepare_default(own, folder / "api-key", KEY)
        switch[0].app = server.build(Services(own, serving, lambda: None, calls=engine_calls()), None)
        made.append(own)

    yield build
    for own in made:
        own.database.close()


def test_move_killed_at_any_step_ends_as_if_it_had_not_been(
    account: FakeAccount, run_import: RunImport, fresh: Fresh, url: str, tmp_path: Path
) -> None:
    account.jobs = account.jobs[-1:]
    account.events = account.events[:3]
    fresh(tmp_path / "undisturbed")
    options = ImportOptions(recreate=True)
    run_import(account.url, fake.KEY, options, folder=tmp_path / "undisturbed")
    expected = _end(url, tmp_path / "undisturbed")
    assert [len(part) for part in expected] == [1, 1, 4, 2]
    moments = []
    for moment in range(1, 100):
        folder = tmp_path / str(moment)
        fresh(folder)
        countdown = Countdown(moment)
        with _dying(url, countdown) as api:
            try:
                run_import(account.url, fake.KEY, options, api, folder=folder, watcher=Mortal(countdown))
            except Killed:
                moments.append(countdown.died)
        if not countdown.died:
            break
        run_import(account.url, fake.KEY, options, folder=folder)
        assert _end(url, folder) == expected, countdown.died
        assert not list(folder.glob("*.parts"))
    assert {"after POST /v1/files", "after POST /v1/fine_tuning/jobs", "begin archive ftjob-done"} <= set(moments)
    assert len(moments) >= 12


def _dying(url: str, countdown: Countdown) -> OpenAI:
    """A client that dies before it sends anything, or once the answer is there and nobody has read it."""

    def before(request: httpx2.Request) -> None:
        if request.method != "GET":
            countdown.at(f"before {request.method} {request.url.path}")

    def after(response: httpx2.Response) -> None:
        if response.request.method != "GET":
            countdown.at(f"after {response.request.method} {response.request.url.path}")

    http = DefaultHttpx2Client(event_hooks={"request": [before], "response": [after]})
    return OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, http_client=http)


def _end(url: str, folder: Path) -> tuple[object, ...]:
    """What an import has left here, without the ids that this service has made up."""
    state = json.loads((folder / "state.json").read_bytes())
    with OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as api:
        files = {file.id: (file.filename, api.files.content(file.id).read()) for file in api.files.list()}
        jobs = {job.id: job for job in api.fine_tuning.jobs.list()}
    imported = {there: files.pop(told["id"]) for there, told in state["files"].items()}
    told = {there: jobs.pop(name).metadata for there, name in state["jobs"].items()}
    assert not files
    assert not jobs, "a second copy"
    archive = {str(path.relative_to(folder)): path.read_bytes() for path in folder.glob("results/*/*")}
    hashes = {name: state["files"]["file-train"][name] for name in ("sha256", "bytes")}
    return imported, told, archive, hashes
