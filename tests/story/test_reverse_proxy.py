"""The service behind nginx and Caddy, with the files of docs/deploy, as the official SDK sees it."""

import hashlib
import itertools
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from openai import AuthenticationError, BadRequestError, DefaultHttpxClient, OpenAI

import proxies
from luthier.api.arm import arm_names
from luthier.service.tenants.keys import DEFAULT_RESOURCE
from repository import CLIPPY
from running import KEY, Running

pytestmark = [pytest.mark.story, pytest.mark.timeout(600)]
BASE = "smollm2-135m-instruct"


@dataclass(frozen=True)
class Outside:
    """The address that callers know, and what trusts its certificate."""

    url: str
    verify: ssl.SSLContext | bool


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def outside(
    request: pytest.FixtureRequest, service: Running, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outside]:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "caddy":
        with proxies.caddy(service.url, folder) as url:
            yield Outside(url, True)
        return
    with proxies.nginx(service.url, folder) as url:
        yield Outside(url, ssl.create_default_context(cafile=str(folder / "tls.pem")))
    faults = (folder / "error.log").read_text()
    assert "[error]" not in faults, faults


@pytest.fixture(scope="module")
def client(outside: Outside) -> Iterator[OpenAI]:
    with OpenAI(
        base_url=f"{outside.url}/v1", api_key=KEY, max_retries=0, http_client=DefaultHttpxClient(verify=outside.verify)
    ) as made:
        yield made


def test_tokens_come_one_by_one(client: OpenAI) -> None:
    question = [{"role": "user", "content": "Count from one to twenty in words."}]
    client.chat.completions.create(model=BASE, messages=question, max_tokens=2)  # loads the model
    times = []
    for _ in client.chat.completions.create(model=BASE, messages=question, max_tokens=40, stream=True, temperature=0):
        times.append(time.monotonic())
    assert len(times) > 20
    assert times[-1] - times[0] > 0.1
    largest = max(later - earlier for earlier, later in itertools.pairwise(times))
    assert largest < 0.7 * (times[-1] - times[0]), "nothing was held back and sent at once"


def test_large_upload_comes_back_whole_and_by_range(client: OpenAI, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096 * 40  # 40 MiB
    (tmp_path / "large.bin").write_bytes(data)
    with (tmp_path / "large.bin").open("rb") as stream:
        file = client.files.create(file=stream, purpose="user_data")
    assert file.bytes == len(data)
    assert hashlib.sha256(client.files.content(file.id).read()).digest() == hashlib.sha256(data).digest()
    part = client.with_options(default_headers={"range": "bytes=1000000-1000009"}).files.content(file.id).read()
    assert part == data[1_000_000:1_000_010]
    client.files.delete(file.id)


def test_events_of_a_job_come_while_the_stream_is_open(client: OpenAI, outside: Outside) -> None:
    file = client.files.create(file=("clippy.jsonl", CLIPPY.read_bytes()), purpose="fine-tune").id
    job = client.fine_tuning.jobs.create(training_file=file, model=BASE)
    path = f"{outside.url}/v1/fine_tuning/jobs/{job.id}/events?stream=true"
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx2.stream("GET", path, headers=headers, verify=outside.verify, timeout=60) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert next(line for line in lines if line.startswith("data:"))
        assert client.fine_tuning.jobs.retrieve(job.id).status not in {"succeeded", "failed"}
    client.fine_tuning.jobs.cancel(job.id)


def test_refusals_and_links_are_those_of_the_outer_address(client: OpenAI, outside: Outside) -> None:
    with pytest.raises(AuthenticationError):
        client.with_options(api_key="wrong").models.list()
    with pytest.raises(BadRequestError):
        client.files.create(file=("a.txt", b"x" * 2_000_000), purpose="nonsense")
    account = arm_names.path_of(DEFAULT_RESOURCE).removesuffix("/deployments")
    told = httpx2.get(
        f"{outside.url}{account}?api-version=2024-10-01",
        headers={"Authorization": f"Bearer {KEY}"},
        verify=outside.verify,
    )
    assert told.json()["properties"]["endpoint"].rstrip("/") == outside.url
