"""Files that expire: both spellings, each dialect's range, gone at once and their bytes soon after."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx2
import openai
import pytest
from openai import AzureOpenAI, OpenAI

import rows
from fakes import BASE, KEY, ScriptedExecutor, engine_calls
from luthier.api import server
from luthier.api.services import Services
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.models.serving import Serving

DAY = 86_400
FORTNIGHT = 14 * DAY


class Shifted:
    """The context's clock, moved ahead by hand."""

    def __init__(self, context: Context) -> None:
        self._now = context.now
        self.ahead = timedelta()

    def now(self) -> datetime:
        return self._now() + self.ahead


@pytest.fixture
def later(context: Context) -> Shifted:
    return Shifted(context)


@pytest.fixture
def context_later(context: Context, later: Shifted) -> Context:
    return replace(context, now=later.now)


@pytest.fixture
def url(switch: tuple[Any, str], context_later: Context, serving: Serving) -> str:
    made, address = switch
    made.app = server.build(Services(context_later, serving, lambda: None, calls=engine_calls()), None)
    return address


@pytest.fixture
def supervisor(context_later: Context, executor: ScriptedExecutor, serving: Serving) -> Supervisor:
    return Supervisor(context_later, executor, serving, tick_s=0.01)


def post(url: str, path: str, **fields: str) -> httpx2.Response:
    form = {"purpose": "fine-tune"} | fields
    return httpx2.post(f"{url}{path}", data=form, files={"file": ("a.jsonl", b"{}")}, headers={"api-key": KEY})


@pytest.mark.parametrize("spelling", ["expires_after[{}]", "expires_after.{}"])
@pytest.mark.parametrize("path", ["/v1/files", "/openai/files?api-version=2025-04-01-preview", "/openai/v1/files"])
def test_expiry_is_taken_in_both_spellings_and_shown(url: str, path: str, spelling: str) -> None:
    fields = {spelling.format("anchor"): "created_at", spelling.format("seconds"): str(FORTNIGHT)}
    file = post(url, path, **fields).json()
    assert file["expires_at"] - file["created_at"] == FORTNIGHT
    assert "expires_at" not in post(url, path).json()


@pytest.mark.parametrize(
    ("path", "seconds", "status"),
    [
        ("/v1/files", 3600, 200),
        ("/v1/files", 3599, 400),
        ("/v1/files", 2_592_000, 200),
        ("/v1/files", 2_592_001, 400),
        ("/openai/files?api-version=2025-04-01-preview", FORTNIGHT, 201),
        ("/openai/files?api-version=2025-04-01-preview", FORTNIGHT - 1, 400),
        ("/openai/v1/files", FORTNIGHT - 1, 400),
        ("/openai/v1/files", 2_592_000, 200),
    ],
)
def test_each_dialect_has_its_range(url: str, path: str, seconds: int, status: int) -> None:
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(seconds)}
    answer = post(url, path, **fields)
    assert answer.status_code == status
    if status == 400:
        assert str(seconds) in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"expires_after[seconds]": "3600"},
        {"expires_after[anchor]": "created_at"},
        {"expires_after[anchor]": "last_active_at", "expires_after[seconds]": "3600"},
        {"expires_after[anchor]": "created_at", "expires_after[seconds]": "an hour"},
    ],
)
def test_half_an_expiry_is_refused_and_no_file_made(url: str, openai_client: OpenAI, fields: dict[str, str]) -> None:
    answer = post(url, "/v1/files", **fields)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_expires_after")
    assert list(openai_client.files.list()) == []


def test_expired_file_is_not_found_at_once_and_its_bytes_go_within_a_minute(
    openai_client: OpenAI, supervisor: Supervisor, context: Context, later: Shifted
) -> None:
    kept = openai_client.files.create(file=("kept.jsonl", b"{}"), purpose="fine-tune")
    expiry = {"anchor": "created_at", "seconds": 3600}
    file = openai_client.files.create(file=("a.jsonl", rows.good()), purpose="fine-tune", expires_after=expiry)
    assert file.expires_at == file.created_at + 3600
    supervisor.tick()
    assert len(list(openai_client.files.list())) == 2

    later.ahead = timedelta(seconds=3601)
    for call in (
        lambda: openai_client.files.retrieve(file.id),
        lambda: openai_client.files.content(file.id),
        lambda: openai_client.files.delete(file.id),
    ):
        with pytest.raises(openai.NotFoundError):
            call()
    assert [found.id for found in openai_client.files.list(limit=1)] == [kept.id]
    with pytest.raises(openai.BadRequestError, match="no file"):
        openai_client.fine_tuning.jobs.create(model=BASE, training_file=file.id)

    assert b"".join(context.blobs.open(f"files/{file.id}")) == rows.good()
    supervisor.tick()
    with pytest.raises(FileNotFoundError):
        context.blobs.open(f"files/{file.id}")
    assert b"".join(context.blobs.open(f"files/{kept.id}")) == b"{}"


def test_expired_files_are_looked_for_once_a_minute_at_most(
    openai_client: OpenAI, supervisor: Supervisor, context: Context, later: Shifted
) -> None:
    expiry = {"anchor": "created_at", "seconds": 3600}
    file = openai_client.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune", expires_after=expiry)
    later.ahead = timedelta(seconds=3590)
    supervisor.tick_storage()
    later.ahead = timedelta(seconds=3630)
    supervisor.tick_storage()
    assert list(context.blobs.open(f"files/{file.id}")) == [b"{}"]
    later.ahead = timedelta(seconds=3700)
    supervisor.tick_storage()
    with pytest.raises(FileNotFoundError):
        context.blobs.open(f"files/{file.id}")


def test_job_that_waits_for_an_expired_file_fails_and_says_so(
    azure: AzureOpenAI, supervisor: Supervisor, later: Shifted
) -> None:
    expiry = {"anchor": "created_at", "seconds": FORTNIGHT}
    file = azure.files.create(file=("a.jsonl", rows.good()), purpose="fine-tune", expires_after=expiry)
    job = azure.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    later.ahead = timedelta(days=15)
    supervisor.tick()
    job = azure.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "failed"
    assert job.error is not None
    assert file.id in job.error.message
