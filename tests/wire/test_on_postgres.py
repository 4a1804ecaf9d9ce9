"""The wire on PostgreSQL: a job's story, what no column takes, and a server that dies and comes back under load.

`LUTHIER_TEST_DATABASE=postgres` runs every other test of the wire on it too (`make test-postgres`).
"""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx2
import pytest
from openai import OpenAI
from pydantic import SecretStr

import databases
import postgres
from fakes import BASE, KEY
from luthier import app, data_folder
from luthier.core.errors import Conflict
from luthier.core.quotas import Quota
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.tenants import keys, quotas
from luthier.settings import Settings
from luthier.store import db
from luthier.store.db import Database

HEADERS = {"api-key": KEY}


@pytest.fixture
def database_kind() -> str:
    return "postgres"


@pytest.fixture
def mortal() -> Iterator[postgres.Server]:
    """A server that the test may kill: it commits in earnest."""
    if (reason := postgres.missing()) is not None:
        pytest.skip(reason)
    server = postgres.Server.create(synchronous_commit="on")
    yield server
    server.remove()


def test_job_is_created_trained_listed_and_deleted(openai_client: OpenAI, supervisor: Supervisor, file: str) -> None:
    jobs = openai_client.fine_tuning.jobs
    made = [jobs.create(training_file=file, model=BASE, metadata={"team": name}) for name in ("a", "b", "ü")]
    for _ in range(12):
        supervisor.tick()
    assert {job.status for job in jobs.list()} == {"succeeded"}
    assert [job.id for job in jobs.list(limit=1)] == [job.id for job in reversed(made)]
    [named] = jobs.list(extra_query={"metadata[team]": "ü"})
    assert named.id == made[2].id
    events = list(jobs.list_events(made[0].id, limit=2))
    assert [event.data["step"] for event in events if event.type == "metrics"] == [4, 3, 2, 1]
    [checkpoint, *_] = jobs.checkpoints.list(made[0].id)
    assert checkpoint.fine_tuning_job_id == made[0].id
    assert openai_client.files.delete(file).deleted


@pytest.mark.parametrize(
    "path",
    ["/v1/files/a\0b", "/v1/fine_tuning/jobs/\0", "/v1/files?after=\0", "/v1/fine_tuning/jobs?metadata[a]=\0"],
)
def test_text_that_cannot_be_looked_up_is_a_400(url: str, path: str) -> None:
    answer = httpx2.get(url + quote(path, safe="/?=[]"), headers=HEADERS)
    assert answer.status_code in {400, 404}, answer.text
    assert answer.json()["error"]["message"]


def test_name_of_a_file_that_cannot_be_stored_is_a_400(url: str) -> None:
    form = {"purpose": (None, "user_data"), "file": ("a\0b.txt", b"abc")}
    answer = httpx2.post(f"{url}/v1/files", headers=HEADERS, files=form)
    assert answer.status_code in {200, 400}, answer.text


def test_service_and_commands_use_the_database_of_the_settings(tmp_path: Path) -> None:
    with postgres.new_database(is_empty=True) as database_url:
        settings = Settings(data_dir=tmp_path / "data", database_url=SecretStr(database_url))
        with pytest.raises(Conflict, match="another version"), data_folder.open_data(settings):
            pass
        service = app.build(settings)
        with data_folder.open_data(settings) as context:
            assert context.database.path is None
            assert [key.name for key in keys.list_all(context, "default")] == ["key1"]
        service.supervisor.context.database.close()
        service.lock.release()
    assert not (settings.data_dir / data_folder.DATABASE).exists()


class TestMortalServer:
    """The service is not started again; only its database is."""

    @pytest.fixture
    def database(self, mortal: postgres.Server) -> Iterator[Database]:
        database = db.open_postgres(mortal.url(mortal.create_database()))
        yield database
        database.close()

    def test_jobs_that_were_answered_are_there_after_a_crash_and_a_restart(
        self, url: str, context: Context, mortal: postgres.Server, file: str
    ) -> None:
        created: list[str] = []
        refused: list[int] = []
        is_over = threading.Event()

        quotas.set_limits(context, "default", {Quota.QUEUED_JOBS: 100_000, Quota.JOBS: 100_000})

        def create() -> None:
            with httpx2.Client(headers=HEADERS) as client:
                while not is_over.is_set():
                    body = {"training_file": file, "model": BASE}
                    answer = client.post(f"{url}/v1/fine_tuning/jobs", json=body)
                    if answer.status_code == 200:
                        created.append(answer.json()["id"])
                    else:
                        refused.append(answer.status_code)
                        time.sleep(0.01)

        threads = [threading.Thread(target=create) for _ in range(3)]
        for thread in threads:
            thread.start()
        for how in (signal.SIGQUIT, signal.SIGINT):
            databases.wait_until_longer(created, len(created) + 5)
            mortal.stop(how)
            databases.wait_until_longer(refused, len(refused))
            assert httpx2.get(f"{url}/v1/files", headers=HEADERS).status_code == 503
            mortal.start()
        databases.wait_until_longer(created, len(created) + 5)
        is_over.set()
        for thread in threads:
            thread.join()
        assert set(refused) == {503}
        with httpx2.Client(headers=HEADERS) as client:
            answers = [client.get(f"{url}/v1/fine_tuning/jobs/{id}") for id in created]
        assert {answer.status_code for answer in answers} == {200}
