"""Nothing of one resource can be seen, named or guessed with the key of another: every route, as the app has them."""

import httpx2
import pytest
from fastapi import FastAPI
from openai import OpenAI

import rows
import walk
from fakes import BASE
from luthier.service import deployments, resources
from luthier.service.context import Context
from luthier.service.supervisor import Supervisor

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
    return {
        "file_id": file.id,
        "job_id": job.id,
        "model_name": job.fine_tuned_model,
        "deployment": "clippy",
        "name": "clippy",
        "subscription": own.subscription,
        "group": own.resource_group,
        "account": own.account,
        "location": "local",
    }


def test_every_thing_of_another_resource_is_what_never_was(
    app: FastAPI, url: str, others_key: str, mine: dict[str, str], my_key: str
) -> None:
    walked = [call for call in walk.calls(app) if call.names_a_thing]
    assert len(walked) > 40
    for call in walked:
        theirs, never = (_ask(url, call, values, others_key) for values in (mine, walk.NEVER))
        assert theirs == never, call
        assert theirs[0] == 404, (call, theirs)
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
    lists = [call for call in walk.calls(app) if call.method == "GET" and not call.parameters]
    assert len(lists) > 8
    for call in lists:
        seen = _request(url, call, mine, others_key)
        assert seen.status_code == 200, call
        for name in ("file_id", "job_id", "model_name"):
            assert mine[name] not in seen.text, call
    for path, cursor in (("files", mine["file_id"]), ("fine_tuning/jobs", mine["job_id"])):
        texts = [
            httpx2.get(f"{url}/v1/{path}?after={after}", headers={"api-key": others_key}).text.replace(after, "ID")
            for after in (cursor, "nothing")
        ]
        assert texts[0] == texts[1]


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
