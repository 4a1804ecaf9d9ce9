"""Nothing of one resource can be seen, named or guessed with the key of another: every route, as the app has them."""

import json

import httpx2
import pytest
from fastapi import FastAPI
from openai import OpenAI

import rows
import walk
from fakes import BASE
from luthier.api.arm import arm_names
from luthier.core.exports import ExportFormat
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.exports import exports
from luthier.service.models import deployments
from luthier.service.tenants import resources
from luthier.service.webhooks import webhook_endpoints

OTHER = "other"


@pytest.fixture
def others_key(context: Context) -> str:
    return resources.create(context, OTHER, "elsewhere", "22222222-2222-2222-2222-222222222222")[1][0]


@pytest.fixture
def my_key(context: Context) -> str:
    return resources.create(context, "tenant-one", "group-one", "33333333-3333-3333-3333-333333333333")[1][0]


@pytest.fixture
def mine(url: str, context: Context, my_key: str, supervisor: Supervisor) -> dict[str, str]:
    """A thing of every noun in one resource, by the parameter that names it in a path."""
    client = OpenAI(base_url=f"{url}/v1", api_key=my_key, max_retries=0)
    file = client.files.create(file=rows.good(), purpose="fine-tune")
    made = client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    for _ in range(3):
        supervisor.tick()
    job = client.fine_tuning.jobs.retrieve(made.id)
    assert job.fine_tuned_model is not None
    own = resources.get(context, "tenant-one")
    request = deployments.DeploymentRequest("clippy", job.fine_tuned_model, None, "Standard", 1)
    deployments.put(context, own.id, request)
    supervisor.tick_deployments()
    upload = client.uploads.create(bytes=3, filename="a", mime_type="text/jsonl", purpose="fine-tune")
    checkpoint = client.fine_tuning.jobs.checkpoints.list(job.id).data[-1]
    resources.create(context, "tenant-two", None, None)
    name = checkpoint.fine_tuned_model_checkpoint
    [permission] = client.fine_tuning.checkpoints.permissions.create(name, project_ids=["tenant-two"])
    requests = client.files.create(file=b"{}", purpose="batch").id
    batch = client.batches.create(
        input_file_id=requests, endpoint="/v1/chat/completions", completion_window="24h", metadata={"whose": "mine"}
    )
    return {
        "file_id": file.id,
        "batch_id": batch.id,
        "response_id": client.responses.create(model="clippy", input="a").id,
        "upload_id": upload.id,
        "part_id": client.uploads.parts.create(upload.id, data=b"abc").id,
        "job_id": job.id,
        "checkpoint_id": checkpoint.id,
        "checkpoint": name,
        "permission_id": permission.id,
        "model_name": job.fine_tuned_model,
        "deployment": "clippy",
        "name": "clippy",
        "export_id": exports.create(context, own.id, job.fine_tuned_model, ExportFormat.ADAPTER).id,
        "file_name": "README.md",
        "webhook_id": webhook_endpoints.create(context, own.id, "mine", "https://1.1.1.1/", ["batch.failed"])[0].id,
        "subscription": own.subscription,
        "group": own.resource_group,
        "account": own.account,
        "location": "local",
        walk.ANY: "anything",
    }


def test_every_thing_of_another_resource_is_what_never_was(
    app: FastAPI, url: str, others_key: str, mine: dict[str, str], my_key: str
) -> None:
    walked = [call for call in walk.calls(app) if call.names_a_thing]
    assert len(walked) > 90
    for call in walked:
        theirs, never = (_ask(url, call, values, others_key) for values in (mine, walk.NEVER))
        assert theirs == never, call
        # The data plane of 2022 answers 409 to a change of what is missing (wire-contract.md section 14).
        assert theirs[0] == (409 if str(call) == "PATCH /openai/deployments/{name}" else 404), (call, theirs)
    _assert_all_there(url, mine, my_key)


def test_names_of_things_in_another_resource_mean_nothing_under_ones_own_account(
    app: FastAPI, url: str, context: Context, others_key: str, mine: dict[str, str], my_key: str
) -> None:
    own = resources.get(context, OTHER)
    account = {"subscription": own.subscription, "group": own.resource_group, "account": own.account}
    for call in walk.calls(app):
        if call.method in {"GET", "DELETE"} and call.names_a_thing and "account" in call.parameters:
            theirs, never = (_ask(url, call, {**values, **account}, others_key) for values in (mine, walk.NEVER))
            assert theirs == never, call
    _assert_all_there(url, mine, my_key)


def test_lists_and_cursors_of_another_resource_are_empty(
    app: FastAPI, url: str, others_key: str, mine: dict[str, str]
) -> None:
    lists = [call for call in walk.calls(app) if call.method == "GET" and set(call.parameters) <= {walk.ANY}]
    assert len(lists) > 12
    for call in lists:
        seen = _request(url, call, mine, others_key)
        # Metrics are of all resources together: nobody else's key reads them.
        assert seen.status_code == (403 if call.template == "/metrics" else 200), call
        for name in ("file_id", "job_id", "batch_id", "model_name", "checkpoint", "webhook_id"):
            assert mine[name] not in seen.text, call
    for path, cursor in (
        ("files", mine["file_id"]),
        ("fine_tuning/jobs", mine["job_id"]),
        ("batches", mine["batch_id"]),
        ("webhook_endpoints", mine["webhook_id"]),
    ):
        texts = [
            httpx2.get(f"{url}/v1/{path}?after={after}", headers={"api-key": others_key}).text.replace(after, "ID")
            for after in (cursor, "nothing")
        ]
        assert texts[0] == texts[1]


def test_part_or_checkpoint_of_another_resource_beside_ones_own_is_what_never_was(
    url: str, context: Context, others_key: str, mine: dict[str, str]
) -> None:
    theirs = OpenAI(base_url=f"{url}/v1", api_key=others_key, max_retries=0)
    upload = theirs.uploads.create(bytes=3, filename="a", mime_type="text/jsonl", purpose="fine-tune")
    file = theirs.files.create(file=rows.good(), purpose="fine-tune")
    job = theirs.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    copy = f"{url}/openai/v1/fine_tuning/jobs/{job.id}/checkpoints/<>/copy"
    own = resources.get(context, OTHER)
    to_itself = {"destinationResourceId": arm_names.id_of(own), "region": "r"}
    for asked, body, name, never in (
        (f"{url}/v1/uploads/{upload.id}/complete", {"part_ids": ["<>"]}, "part_id", "part_none"),
        (copy, to_itself, "checkpoint_id", "ftchkpt-none"),
        (copy, to_itself, "checkpoint", "nobody"),
    ):
        texts = []
        for value in (mine[name], never):
            sent = json.loads(json.dumps(body).replace("<>", value))
            headers = walk.PREVIEW | {"api-key": others_key}
            answer = httpx2.post(asked.replace("<>", value), headers=headers, json=sent)
            assert answer.status_code in {400, 404}, answer.text
            texts.append(answer.text.replace(value, "NAME"))
        assert texts[0] == texts[1], name


@pytest.mark.parametrize("field", ["training_file", "validation_file", "model"])
def test_a_body_that_names_a_thing_of_another_resource_is_refused_as_for_what_never_was(
    url: str, others_key: str, mine: dict[str, str], field: str
) -> None:
    theirs = OpenAI(base_url=f"{url}/v1", api_key=others_key, max_retries=0)
    file = theirs.files.create(file=b'{"messages": []}\n', purpose="fine-tune")
    names = {"training_file": mine["file_id"], "validation_file": mine["file_id"], "model": mine["model_name"]}
    never = {"training_file": "file-none", "validation_file": "file-none", "model": "nobody"}
    texts = []
    for value in (names[field], never[field]):
        body = {"model": BASE, "training_file": file.id, field: value}
        answer = httpx2.post(f"{url}/v1/fine_tuning/jobs", headers={"api-key": others_key}, json=body)
        assert answer.status_code == 400
        texts.append(answer.text.replace(value, "NAME"))
    assert texts[0] == texts[1]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/openai/v1/chat/completions"])
@pytest.mark.parametrize("named", ["deployment", "model_name"])
def test_chat_with_a_model_of_another_resource_is_a_404(
    url: str, others_key: str, mine: dict[str, str], path: str, named: str
) -> None:
    texts = []
    for model in (mine[named], "nobody"):
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
        answer = httpx2.post(url + path, headers={"api-key": others_key}, json=body)
        assert answer.status_code == 404
        texts.append(answer.text.replace(model, "NAME"))
    assert texts[0] == texts[1]


def _ask(url: str, call: walk.Call, values: dict[str, str], key: str) -> tuple[int, str]:
    """Status and text, with the asked-for names taken out."""
    answer = _request(url, call, values, key)
    text = answer.text
    for name in sorted(call.parameters, key=lambda name: -len(values[name])):
        text = text.replace(values[name], f"<{name}>")
    return answer.status_code, text


def _request(url: str, call: walk.Call, values: dict[str, str], key: str) -> httpx2.Response:
    return walk.request(url, call, values, key)


def _assert_all_there(url: str, mine: dict[str, str], my_key: str) -> None:
    """None of the calls of a stranger has changed anything."""
    client = OpenAI(base_url=f"{url}/v1", api_key=my_key, max_retries=0)
    assert client.files.retrieve(mine["file_id"]).status == "processed"
    assert client.fine_tuning.jobs.retrieve(mine["job_id"]).status == "succeeded"
    assert client.models.retrieve(mine["model_name"])
    answer = client.chat.completions.create(model="clippy", messages=[{"role": "user", "content": "hi"}])
    assert answer.choices
    assert [one.id for one in client.fine_tuning.checkpoints.permissions.list(mine["checkpoint"])] == [
        mine["permission_id"]
    ]
    assert client.uploads.complete(mine["upload_id"], part_ids=[mine["part_id"]]).file
