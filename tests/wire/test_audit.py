"""The audit log: a line for each change, whoever asked and whatever came of it; never a row, a prompt or a key."""

import asyncio
import logging
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from openai import OpenAI
from starlette.types import Message, Receive, Scope, Send

import rows
import walk
from fakes import BASE, KEY
from luthier.api.arm import arm_names
from luthier.api.auth.audit_trail import MAX_PARSED_BYTES, AuditTrail
from luthier.core.models import Principal
from luthier.core.roles import Action, Role
from luthier.service.context import Context
from luthier.service.tenants import audit, keys
from luthier.service.tenants.audit import Entry


def lines(context: Context) -> list[Entry]:
    return list(audit.read_entries(context.audit_file))


@pytest.mark.parametrize(("length", "is_parsed"), [(MAX_PARSED_BYTES, True), (MAX_PARSED_BYTES + 1, False)])
def test_id_of_a_created_object_is_read_from_an_answer_of_bounded_length(
    tmp_path: Path, context: Context, caller: Principal, length: int, is_parsed: bool
) -> None:
    answer = b'{"id": "file-1"}'.ljust(length)
    state = {"caller": caller, "action": Action.FILES_WRITE, "route": "/v1/files", "request_id": "r"}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer[:20], "more_body": True})
        await send({"type": "http.response.body", "body": answer[20:]})

    async def call() -> None:
        async def receive() -> Message:
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            pass

        scope = {"type": "http", "method": "POST", "state": state, "path_params": {}}
        await AuditTrail(app, tmp_path / "audit.jsonl", context.now)(scope, receive, send)

    asyncio.run(call())
    [entry] = audit.read_entries(tmp_path / "audit.jsonl")
    assert entry.id == ("file-1" if is_parsed else caller.resource.account)


def test_each_change_leaves_who_what_on_which_id_and_the_outcome(
    openai_client: OpenAI, url: str, context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger="luthier"):
        file = openai_client.files.create(file=("secret-plans.jsonl", rows.good()), purpose="fine-tune")
        job = openai_client.fine_tuning.jobs.create(model=BASE, training_file=file.id, suffix="s")
        cancelled = openai_client.fine_tuning.jobs.with_raw_response.cancel(job.id)
        openai_client.files.list()
        openai_client.chat.completions.create(model=BASE, messages=[{"role": "user", "content": "What is 3 plus one?"}])
        body = {"sku": {"name": "Standard"}, "properties": {"model": {"name": BASE}}}
        path = f"{url}{arm_names.path_of(keys.DEFAULT_RESOURCE)}/d"
        httpx2.put(path, headers={"api-key": KEY}, json=body)
        [(_, key)] = (
            httpx2.post(
                path.replace("deployments/d", "regenerateKey"), headers={"api-key": KEY}, json={"keyName": "key2"}
            )
            .json()
            .items()
        )
    found = lines(context)
    assert [(line.resource, line.who, line.action, line.id, line.status) for line in found] == [
        ("luthier", "key1", "files/write", file.id, 200),
        ("luthier", "key1", "jobs/write", job.id, 200),
        ("luthier", "key1", "jobs/write", job.id, 200),
        ("luthier", "key1", "deployments/write", "d", 201),
        ("luthier", "key1", "keys/write", "luthier", 200),
    ]
    assert found[2].route == "POST /v1/fine_tuning/jobs/{job_id}/cancel"
    assert found[2].request_id == cancelled.headers["x-request-id"]
    assert found[0].at.startswith("2026-11-22T")
    assert caplog.text.count("luthier.audit") == 5
    for text in (context.audit_file.read_text(), caplog.text):
        for private in ("secret-plans", "plus one", key, KEY):
            assert private not in text
    assert context.audit_file.stat().st_mode & 0o777 == 0o600


def test_refused_changes_leave_a_line_as_well_and_strangers_none(
    openai_client: OpenAI, url: str, context: Context, caller: Principal
) -> None:
    reader = keys.create(context, caller.resource.id, "reader", Role.OPENAI_USER)
    for key, path in ((reader, "file-a"), (KEY, "file-b"), ("wrong", "file-c")):
        httpx2.delete(f"{url}/v1/files/{path}", headers={"api-key": key})
    httpx2.post(f"{url}/v1/fine_tuning/jobs", headers={"api-key": KEY}, json={})
    assert [(line.who, line.id, line.status) for line in lines(context)] == [
        ("reader", "file-a", 403),
        ("key1", "file-b", 404),
        ("key1", "luthier", 400),
    ]


def test_every_route_that_changes_leaves_exactly_one_line_and_no_other_does(
    app: FastAPI, url: str, context: Context
) -> None:
    for call in walk.calls(app):
        before = len(lines(context))
        walk.request(url, call, walk.NEVER, KEY)
        assert len(lines(context)) - before == call.action.is_change, call


def test_change_that_breaks_in_the_middle_leaves_its_line(app: FastAPI, url: str, context: Context) -> None:
    (context.data_folder / "blobs").rename(context.data_folder / "gone")
    (context.data_folder / "blobs").write_text("a file in the way")
    file = {"file": ("rows.jsonl", rows.good()), "purpose": (None, "fine-tune")}
    answer = httpx2.post(f"{url}/v1/files", headers={"api-key": KEY}, files=file)
    assert answer.status_code >= 500
    [line] = lines(context)
    assert (line.action, line.status) == ("files/write", answer.status_code)
    assert line.request_id == answer.headers["x-request-id"]


def test_line_that_a_crash_tore_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    entries = [Entry("t", "r", "key1", "files/write", "POST /files", f"file-{n}", 200, "id") for n in range(3)]
    audit.append(path, entries[0])
    with path.open("a") as stream:
        stream.write('{"at":"t","resou')
    audit.append(path, entries[1])
    audit.append(path, entries[2])
    assert list(audit.read_entries(path)) == entries


def test_log_that_cannot_be_written_is_told_and_the_change_stands(
    openai_client: OpenAI, context: Context, caplog: pytest.LogCaptureFixture
) -> None:
    context.audit_file.mkdir()
    file = openai_client.files.create(file=rows.good(), purpose="fine-tune")
    assert openai_client.files.retrieve(file.id)
    assert "audit line not written" in caplog.text
    assert file.id in caplog.text
