"""Which downloads are redirected to a signed URL of the blob store; with real stores: tests/object_stores."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler

import httpx2
import pytest
from openai import AsyncOpenAI, AzureOpenAI, OpenAI

import rows
import servers
from fakes import BASE, KEY
from luthier.api.auth import session_cookie
from luthier.core.models import Principal
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.tenants import resources, sessions

DATA = rows.good()
BEARER = {"authorization": f"Bearer {KEY}"}


@dataclass
class Store:
    """A store's server, and a signer of its URLs; `headers` are those of each request that came."""

    address: str = ""
    signs: bool = True
    asked: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def url_of(self, key: str) -> str | None:
        self.asked.append(key)
        return f"{self.address}/{key}?signature=secret" if self.signs else None

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        servers.sends(DATA)(request)


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store()
    with servers.serving(made.answer) as port:
        made.address = f"http://localhost:{port}"
        yield made


@pytest.fixture
def context(context: Context, store: Store) -> Context:
    return replace(context, download_links=store)


@pytest.fixture
def file(openai_client: OpenAI) -> str:
    return openai_client.files.create(file=("rows.jsonl", DATA), purpose="fine-tune").id


@pytest.fixture
def path(url: str, file: str) -> str:
    return f"{url}/v1/files/{file}/content"


def test_bearer_token_is_redirected_and_nothing_is_cached(path: str, store: Store, file: str) -> None:
    answer = httpx2.get(path, headers=BEARER)
    assert (answer.status_code, answer.content) == (302, b"")
    assert answer.headers["location"] == f"{store.address}/files/{file}?signature=secret"
    assert answer.headers["cache-control"] == "no-store"


def test_sdk_follows_and_shows_the_store_no_key(openai_client: OpenAI, store: Store, file: str) -> None:
    assert openai_client.files.content(file).read() == DATA
    (headers,) = store.headers
    assert KEY not in str(headers)


def test_async_sdk_follows_and_shows_the_store_no_key(url: str, store: Store, file: str) -> None:
    async def act() -> bytes:
        async with AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY) as client:
            return (await client.files.content(file)).read()

    assert asyncio.run(act()) == DATA
    assert KEY not in str(store.headers)


def test_azures_client_with_a_key_gets_the_bytes_from_the_service(azure: AzureOpenAI, store: Store, file: str) -> None:
    content = azure.files.content(file)
    assert (content.read(), content.response.history) == (DATA, [])
    assert store.asked == []


@pytest.mark.parametrize(
    "headers",
    [
        {"api-key": KEY},
        BEARER | {"api-key": KEY},
        BEARER | {"range": "bytes=0-1,4-5"},
        BEARER | {"range": "lines=1-2"},
        BEARER | {"range": "bytes=0-1", "if-range": '"other"'},
        {"cookie": ""},
    ],
    ids=["api-key", "both", "two ranges", "no range", "if-range", "session"],
)
def test_request_that_the_store_would_not_answer_alike_is_answered_by_the_service(
    context: Context, caller: Principal, path: str, store: Store, headers: dict[str, str]
) -> None:
    if "cookie" in headers:
        headers = {"cookie": f"{session_cookie.NAME}={sessions.create(context, caller, KEY)}"}
    answer = httpx2.get(path, headers=headers)
    assert (answer.status_code, answer.content) == (200, DATA)
    assert store.asked == []


def test_single_range_is_redirected_and_one_beyond_the_end_is_our_416(path: str, store: Store) -> None:
    assert httpx2.get(path, headers=BEARER | {"range": "bytes=3-5"}).status_code == 302
    store.asked.clear()
    assert httpx2.get(path, headers=BEARER | {"range": f"bytes={len(DATA)}-"}).status_code == 416
    assert store.asked == []


@pytest.mark.parametrize("asked", ["bytes=-3", f"bytes=5-{10**40}"])
def test_range_that_some_store_does_not_know_is_answered_by_the_service(path: str, store: Store, asked: str) -> None:
    answer = httpx2.get(path, headers=BEARER | {"range": asked})
    assert (answer.status_code, answer.content) == (206, DATA[int(asked.partition("=")[2].partition("-")[0] or -3) :])
    assert store.asked == []


def test_head_is_answered_by_the_service(path: str, store: Store) -> None:
    answer = httpx2.head(path, headers=BEARER)
    assert (answer.status_code, int(answer.headers["content-length"])) == (200, len(DATA))
    assert store.asked == []


def test_store_that_cannot_sign_now_leaves_the_bytes_to_the_service(path: str, store: Store) -> None:
    store.signs = False
    answer = httpx2.get(path, headers=BEARER)
    assert (answer.status_code, answer.content) == (200, DATA)


def test_results_of_a_job_are_sent_by_the_service_whose_dialect_encodes_them(
    url: str, openai_client: OpenAI, azure_v1: OpenAI, supervisor: Supervisor, file: str, store: Store
) -> None:
    job = openai_client.fine_tuning.jobs.create(model=BASE, training_file=file)
    for _ in range(4):
        supervisor.tick()
    (results,) = openai_client.fine_tuning.jobs.retrieve(job.id).result_files
    assert azure_v1.files.content(results).text.startswith("step,train_loss")
    assert store.asked == []


def test_refused_callers_get_no_url(context: Context, url: str, path: str, store: Store) -> None:
    assert httpx2.get(path, headers={"authorization": "Bearer no-key-at-all"}).status_code == 401
    _, (others, _) = resources.create(context, "other", None, None)
    assert httpx2.get(path, headers={"authorization": f"Bearer {others}"}).status_code == 404
    missing = f"{url}/v1/files/file-{'0' * 32}/content"
    assert httpx2.get(missing, headers=BEARER).status_code == 404
    assert store.asked == []


def test_no_line_of_the_log_has_the_signed_url(path: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        assert httpx2.get(path, headers=BEARER).status_code == 302
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("luthier", "uvicorn"))]
    assert any("status=302" in line for line in ours)
    assert not any("signature" in line for line in ours)
