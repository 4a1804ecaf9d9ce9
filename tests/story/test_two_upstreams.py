"""Two API processes and a supervisor behind nginx with two upstreams, as the unmodified SDK sees them."""

import io
import itertools
import signal
import socketserver
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import httpx2
import pytest
from openai import DefaultHttpxClient, OpenAI

import proxies
import rows
import split_processes
import tiny
from running import KEY
from split_processes import Process, Split, create_job, ended_job

pytestmark = [pytest.mark.story, pytest.mark.timeout(300)]
HEADERS = {"Authorization": f"Bearer {KEY}"}


@dataclass(frozen=True)
class Site:
    """The address that callers know, what trusts its certificate, and what is behind it."""

    url: str
    verify: ssl.SSLContext
    split: Split
    apis: tuple[Process, Process]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    proxies.program("nginx")
    folder = tmp_path_factory.mktemp("two")
    split = split_processes.prepared(folder)
    try:
        split.supervisor()
        first, second = split.api(), split.api()
        with proxies.nginx(first.url, folder, second.url) as url:
            verify = ssl.create_default_context(cafile=str(folder / "tls.pem"))
            yield Site(url, verify, split, (first, second))
    finally:
        split.close()


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[OpenAI]:
    http = DefaultHttpxClient(verify=site.verify)
    with OpenAI(base_url=f"{site.url}/v1", api_key=KEY, max_retries=0, http_client=http) as made:
        yield made


def calls_of(api: Process) -> float:
    """How many requests one process has answered."""
    text = httpx2.get(f"{api.url}/metrics", headers=HEADERS).text
    lines = [line for line in text.splitlines() if line.startswith("luthier_request_seconds_count")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def chat(client: OpenAI) -> Any:
    return client.chat.completions.create(
        model=tiny.NAME, messages=[{"role": "user", "content": "a"}], max_tokens=2, stream=False
    )


def test_job_from_an_upload_by_parts_to_a_chat_with_its_model(client: OpenAI, site: Site) -> None:
    data = rows.good(20)
    upload = client.uploads.create(bytes=len(data), filename="rows.jsonl", mime_type="text/jsonl", purpose="fine-tune")
    size = len(data) // 5 + 1
    parts = [
        client.uploads.parts.create(upload.id, data=io.BytesIO(data[start : start + size])).id
        for start in range(0, len(data), size)
    ]
    file = client.uploads.complete(upload.id, part_ids=parts).file
    assert file is not None
    assert client.files.content(file.id).read() == data
    job_id = create_job(client, file.id, 4)
    path = f"{site.url}/v1/fine_tuning/jobs/{job_id}/events?stream=true"
    with httpx2.stream("GET", path, headers=HEADERS, verify=site.verify, timeout=60) as answer:
        lines = (line for line in answer.iter_lines() if line.startswith("data:"))
        assert len(list(itertools.islice(lines, 3))) == 3
    job = ended_job(client, job_id)
    messages: Any = [{"role": "user", "content": "a"}]
    for _ in range(4):
        told = client.chat.completions.create(model=job.fine_tuned_model, messages=messages, max_tokens=4)
        assert told.usage is not None
    pieces = client.chat.completions.create(model=tiny.NAME, messages=messages, max_tokens=20, stream=True)
    assert len(list(pieces)) > 2
    assert all(calls_of(api) > 5 for api in site.apis), "both processes have answered"


class Dying(socketserver.BaseRequestHandler):
    """Reads a request and closes the connection without an answer."""

    asked: ClassVar[list[bytes]] = []

    def handle(self) -> None:
        self.asked.append(self.request.recv(65536))


def test_post_whose_process_dies_over_it_reaches_no_other_process(tmp_path: Path) -> None:
    servers = [socketserver.ThreadingTCPServer(("127.0.0.1", 0), Dying) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    urls = [f"http://127.0.0.1:{server.server_address[1]}" for server in servers]
    try:
        with proxies.nginx(urls[0], tmp_path, urls[1]) as url:
            verify = ssl.create_default_context(cafile=str(tmp_path / "tls.pem"))
            assert httpx2.post(f"{url}/v1/files", content=b"x", verify=verify).status_code == 502
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
    assert len(Dying.asked) == 1


def test_process_that_is_killed_is_noticed_by_no_later_call(client: OpenAI, site: Site) -> None:
    for _ in range(4):
        chat(client)
    site.apis[1].end(signal.SIGKILL)
    for _ in range(12):
        chat(client)
        client.models.list()
