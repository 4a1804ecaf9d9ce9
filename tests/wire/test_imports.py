"""Files imported from URLs: pending, then processed or an error with its reason; a restart goes on; no URL is kept."""

import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import OpenAI

import rows
from fakes import BASE, KEY, ScriptedExecutor, engine_calls
from luthier.api import server
from luthier.api.services import Services
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.files.url_imports import Importer
from luthier.service.models.serving import Serving
from luthier.store import tables
from luthier.url_fetch.fetcher import GuardedFetcher
from servers import LOOPBACK, certificate, sends, serving

PATHS = {
    "azure": "/openai/files/import?api-version=2024-10-21",
    "2022": "/openai/files/import?api-version=2022-12-01",
    "v1": "/openai/v1/files/import",
    "openai": "/v1/files/import",
}
SAS = "sv=2024-11-04&st=2026-11-22T00%3A00%3A00Z&se=2026-11-23&sr=b&sp=r&sig=aB%2F%2bc%3D"
PRESIGNED = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20261122%2Fus-east-1%2Fs3&X-Amz-Signature=00ff"


@pytest.fixture
def context(context: Context) -> Context:
    fetcher = GuardedFetcher(LOOPBACK, allow_http=True, resolve=lambda host, port: ["127.0.0.1"])
    return replace(context, fetcher=fetcher)


@pytest.fixture
def url(switch: tuple[Any, str], context: Context, serving: Serving) -> str:
    made, address = switch
    made.app = server.build(Services(context, serving, lambda: None, calls=engine_calls()), None)
    return address


@pytest.fixture
def supervisor(context: Context, executor: ScriptedExecutor, serving: Serving) -> Supervisor:
    return Supervisor(context, executor, serving, tick_s=0.01)


@pytest.fixture
def source() -> Iterator[int]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        if request.path.startswith("/missing"):
            request.send_error(404, "inner words")
        else:
            sends(rows.good())(request)

    with serving(answer) as port:
        yield port


def post(url: str, path: str, **fields: object) -> httpx2.Response:
    body = {"purpose": "fine-tune", "filename": "rows.jsonl"} | fields
    headers = {"api-key": KEY, "content-type": "application/json"}
    return httpx2.post(f"{url}{path}", content=json.dumps(body), headers=headers)


@pytest.mark.parametrize(("dialect", "status"), [("azure", 201), ("2022", 201), ("v1", 200), ("openai", 200)])
def test_import_is_pending_then_processed_and_can_be_trained_on(
    url: str, source: int, supervisor: Supervisor, openai_client: OpenAI, dialect: str, status: int
) -> None:
    answer = post(url, PATHS[dialect], content_url=f"http://blobs.example:{source}/c/rows.jsonl?{SAS}")
    file = answer.json()
    assert answer.status_code == status
    assert file["status"] == ("uploaded" if dialect == "openai" else "pending")
    if status == 201:
        assert answer.headers["location"].startswith(f"{url}/openai/files/{file['id']}?api-version=")
    supervisor.tick()
    done = openai_client.files.wait_for_processing(file["id"])
    assert (done.status, done.bytes, done.filename) == ("processed", len(rows.good()), "rows.jsonl")
    assert openai_client.files.content(done.id).read() == rows.good()
    assert openai_client.fine_tuning.jobs.create(model=BASE, training_file=done.id).id


@pytest.mark.parametrize("query", [SAS, PRESIGNED])
def test_query_goes_out_byte_for_byte_and_stays_nowhere(
    url: str, supervisor: Supervisor, context: Context, caplog: pytest.LogCaptureFixture, query: str
) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.path)
        sends(rows.good())(request)

    with serving(answer) as port:
        for path in ("/c/rows.jsonl", "/missing"):
            post(url, PATHS["azure"], content_url=f"http://blobs.example:{port}{path}?{query}")
        supervisor.tick()
    assert seen == [f"/c/rows.jsonl?{query}", f"/missing?{query}"]
    signature = query.rpartition("=")[2] if query == PRESIGNED else "aB%2F%2bc%3D"
    assert signature not in caplog.text
    assert "rows.jsonl" not in caplog.text
    with context.database.reading() as tx:
        dump = "\n".join(str(row) for table in tables.metadata.sorted_tables for row in tx.execute(table.select()))
    assert "blobs.example" not in dump
    assert signature not in dump


@pytest.mark.parametrize("dialect", ["azure", "v1", "openai"])
def test_failed_fetch_ends_in_error_with_a_reason(
    url: str, source: int, supervisor: Supervisor, openai_client: OpenAI, dialect: str
) -> None:
    made = post(url, PATHS[dialect], content_url=f"http://blobs.example:{source}/missing?{SAS}").json()
    supervisor.tick()
    path = PATHS[dialect].replace("import", made["id"])
    file = httpx2.get(f"{url}{path}", headers={"api-key": KEY}).json()
    assert file["status"] == "error"
    assert "blobs.example answered with status 404" in file["status_details"]
    assert "inner words" not in str(file)
    assert file.get("error", {}).get("code") == (None if dialect == "openai" else "fileImportFailed")
    content = httpx2.get(f"{url}/v1/files/{made['id']}/content", headers={"api-key": KEY})
    assert content.status_code == 409
    jobs = PATHS[dialect].replace("files/import", "fine_tuning/jobs")
    body = {"model": BASE, "training_file": made["id"]}
    refused = httpx2.post(f"{url}{jobs}", json=body, headers={"api-key": KEY})
    assert refused.status_code == 400
    code = refused.json()["error"]["code"]
    assert code == ("file_import_failed" if dialect == "openai" else "fileImportFailed")
    assert openai_client.files.delete(made["id"]).deleted


def test_job_is_refused_while_the_file_is_pending(url: str, source: int, openai_client: OpenAI) -> None:
    made = post(url, PATHS["openai"], content_url=f"http://blobs.example:{source}/rows").json()
    body = {"model": BASE, "training_file": made["id"]}
    refused = httpx2.post(f"{url}/v1/fine_tuning/jobs", json=body, headers={"api-key": KEY})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "file_not_ready")
    content = httpx2.get(f"{url}/v1/files/{made['id']}/content", headers={"api-key": KEY})
    assert (content.status_code, content.headers["x-should-retry"]) == (409, "false")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"content_url": "http://10.0.0.1/"}, "content_url"),
        ({"content_url": "http://2130706433/"}, "content_url"),
        ({"content_url": "http://user:word@blobs.example/"}, "content_url"),
        ({"content_url": "file:///etc/passwd"}, "content_url"),
        ({"content_url": "\ud800"}, "content_url"),
        ({"content_url": 1}, "content_url"),
        ({}, "content_url"),
        ({"content_url": "http://blobs.example/", "purpose": "botch"}, "purpose"),
        ({"content_url": "http://blobs.example/", "filename": ""}, "filename"),
        ({"content_url": "http://blobs.example/", "filename": "\udc00"}, "filename"),
        (
            {"content_url": "http://blobs.example/", "expires_after": {"anchor": "created_at", "seconds": 3600}},
            "expires_after.seconds",
        ),
    ],
)
def test_import_that_never_could_be_is_a_400_at_once(
    url: str, openai_client: OpenAI, fields: dict[str, object], param: str
) -> None:
    answer = post(url, PATHS["azure"], **fields)
    assert (answer.status_code, answer.json()["error"]["target"]) == (400, param), answer.text
    assert list(openai_client.files.list()) == []


def test_import_expires_like_an_upload(url: str, source: int) -> None:
    expiry = {"anchor": "created_at", "seconds": 1_209_600}
    made = post(url, PATHS["azure"], content_url=f"http://blobs.example:{source}/rows", expires_after=expiry).json()
    assert made["expires_at"] == made["created_at"] + 1_209_600


def test_import_broken_off_by_a_stop_is_taken_up_by_the_next_start(
    url: str, context: Context, openai_client: OpenAI
) -> None:
    began, go_on = threading.Event(), threading.Event()
    times = 0

    def answer(request: BaseHTTPRequestHandler) -> None:
        nonlocal times
        times += 1
        request.send_response(200)
        request.end_headers()
        request.wfile.write(rows.good()[:100])
        if times == 1:
            began.set()
            go_on.wait(20)
        request.wfile.write(rows.good()[100:])

    with serving(answer) as port:
        made = post(url, PATHS["openai"], content_url=f"http://blobs.example:{port}/rows").json()
        first = threading.Thread(target=Importer(context, go_on.is_set).work)
        first.start()
        assert began.wait(20)
        go_on.set()
        first.join(20)
        assert openai_client.files.retrieve(made["id"]).status == "uploaded"
        Importer(context).work()
    assert (openai_client.files.retrieve(made["id"]).status, times) == ("processed", 2)
    assert openai_client.files.content(made["id"]).read() == rows.good()


def test_slow_import_holds_up_no_other_and_is_fetched_by_one_thread_alone(url: str, context: Context) -> None:
    began, go_on = threading.Event(), threading.Event()
    paths: list[str] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        paths.append(request.path)
        if request.path == "/slow":
            began.set()
            go_on.wait(20)
        sends(rows.good())(request)

    with serving(answer) as port:
        importer = Importer(context)
        post(url, PATHS["openai"], content_url=f"http://blobs.example:{port}/slow")
        slow = threading.Thread(target=importer.work)
        slow.start()
        assert began.wait(20)
        quick = post(url, PATHS["openai"], content_url=f"http://blobs.example:{port}/quick").json()
        importer.work()
        file = httpx2.get(f"{url}/v1/files/{quick['id']}", headers={"api-key": KEY}).json()
        assert (file["status"], paths) == ("processed", ["/slow", "/quick"])
        go_on.set()
        slow.join(20)
    assert paths == ["/slow", "/quick"]


def test_file_deleted_while_it_is_fetched_leaves_no_bytes(url: str, context: Context, openai_client: OpenAI) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        openai_client.files.delete(made["id"])
        sends(rows.good())(request)

    with serving(answer) as port:
        made = post(url, PATHS["openai"], content_url=f"http://blobs.example:{port}/rows").json()
        Importer(context).work()
    assert list(openai_client.files.list()) == []
    assert [path for path in (context.runs_folder.parent / "blobs").rglob("*") if path.is_file()] == []


def test_empty_answer_is_an_error_and_https_works(
    url: str, context: Context, openai_client: OpenAI, tmp_path: Path
) -> None:
    tls, client = certificate(tmp_path, "blobs.example")
    fetcher = GuardedFetcher(LOOPBACK, resolve=lambda host, port: ["127.0.0.1"], tls=client)

    def answer(request: BaseHTTPRequestHandler) -> None:
        sends(b"" if request.path == "/empty" else rows.good())(request)

    with serving(answer, tls) as port:
        made = [
            post(url, PATHS["openai"], content_url=f"https://blobs.example:{port}/{name}").json()["id"]
            for name in ("empty", "rows")
        ]
        Importer(replace(context, fetcher=fetcher)).work()
    empty, good = (openai_client.files.retrieve(file_id) for file_id in made)
    assert (empty.status, good.status) == ("error", "processed")
    assert empty.status_details is not None
    assert "no bytes" in empty.status_details


def test_running_supervisor_fetches_by_itself(
    url: str, source: int, supervisor: Supervisor, openai_client: OpenAI
) -> None:
    supervisor.start()
    try:
        made = [
            post(url, PATHS["openai"], content_url=f"http://blobs.example:{source}/{n}").json()["id"] for n in range(8)
        ]
        done = [openai_client.files.wait_for_processing(file_id, poll_interval=0.05) for file_id in made]
    finally:
        supervisor.stop()
    assert [file.status for file in done] == ["processed"] * 8
