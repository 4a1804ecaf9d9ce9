"""Events as they come, at every path and with every verb that clients use for them; checkpoints page by page."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from openai import AzureOpenAI, OpenAI
from starlette.types import ASGIApp, Receive, Scope, Send

import rows
from asgi_switch import Switch
from fakes import BASE, KEY, ScriptedExecutor, train_well
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Metrics, Started
from luthier.service.background.supervisor import Supervisor

VERSION = "api-version=2024-10-21"
HEAD = {"api-key": KEY}
EVENTS = ["/v1/fine_tuning/jobs/{}/events", "/openai/v1/fine_tuning/jobs/{}/events"]
OLD_EVENTS = ["/fine_tuning/jobs/{}/events", "/fine-tunes/{}/events"]
WITH_VERSION = ["/openai/fine_tuning/jobs/{}/events", "/openai/deployments/d/fine_tuning/jobs/{}/events"]
ALL_EVENTS = [*EVENTS, *OLD_EVENTS, *[f"{path}?{VERSION}" for path in WITH_VERSION]]


@pytest.fixture
def job_id(azure: AzureOpenAI) -> str:
    file = azure.files.create(file=("rows.jsonl", rows.good()), purpose="fine-tune")
    return azure.fine_tuning.jobs.create(training_file=file.id, model=BASE).id


def first_step(run: RunDirectory) -> None:
    run.append(Started(at=100.0, n_steps=4, n_examples=10, n_tokens=100, supervised_tokens=40))
    run.append(Metrics(at=101.0, step=1, n_steps=4, train_loss=1.0, train_mean_token_accuracy=0.5))


def data_of(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if line:
            assert line.startswith("data: "), line
            yield line.removeprefix("data: ")


def test_stream_gives_every_event_in_order_and_ends(
    url: str, azure: AzureOpenAI, job_id: str, supervisor: Supervisor
) -> None:
    for _ in range(5):
        supervisor.tick()
    listed = [event.id for event in azure.fine_tuning.jobs.list_events(job_id)]
    for address in (url + path.format(job_id) for path in ALL_EVENTS):
        query = {"stream": "true", **httpx2.URL(address).params}
        with httpx2.stream("GET", address, params=query, headers=HEAD) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            *found, last = data_of(answer.iter_lines())
        assert last == "[DONE]"
        events = [json.loads(text) for text in found]
        assert [event["id"] for event in events] == listed[::-1]
        assert {event["object"] for event in events} == {"fine_tuning.job.event"}


def test_stream_goes_on_while_the_job_runs_and_from_an_event_on(
    url: str, job_id: str, supervisor: Supervisor, executor: ScriptedExecutor
) -> None:
    executor.trainer, executor.alive = first_step, {"fake:1"}
    for _ in range(4):
        supervisor.tick()
    address = f"{url}/v1/fine_tuning/jobs/{job_id}/events"
    with httpx2.stream("GET", address, params={"stream": "true"}, headers=HEAD, timeout=30) as answer:
        texts = data_of(answer.iter_lines())
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["message"] != "Step 1: training loss=1.0":
            seen.append(json.loads(next(texts)))
        train_well(supervisor_run(executor))
        supervisor.tick()
        *rest, last = texts
    assert last == "[DONE]"
    assert json.loads(rest[-1])["message"] == "Training tokens billed: 200"
    with httpx2.stream("GET", address, params={"stream": "true", "after": seen[-1]["id"]}, headers=HEAD) as answer:
        assert list(data_of(answer.iter_lines())) == [*rest, last]


def supervisor_run(executor: ScriptedExecutor) -> RunDirectory:
    return RunDirectory(executor.started[0])


class Counting:
    """Counts the requests that the application is still at."""

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.open = app, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.open += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.open -= 1


def test_many_watchers_hold_no_thread_and_leave_nothing_when_they_go(
    url: str, switch: tuple[Switch, str], job_id: str, azure: AzureOpenAI
) -> None:
    """More watchers than the server has worker threads (40): other calls are answered all the same."""
    made, _ = switch
    assert made.app is not None
    counting = Counting(made.app)
    made.app = counting
    address = f"{url}/v1/fine_tuning/jobs/{job_id}/events?stream=true"
    with httpx2.Client(headers=HEAD, limits=httpx2.Limits(max_connections=60), timeout=30) as client:
        watching = [client.send(client.build_request("GET", address), stream=True) for _ in range(50)]
        assert counting.open == 50
        assert threading.active_count() < 50 + 20
        assert azure.fine_tuning.jobs.retrieve(job_id).to_dict()["status"] == "pending"
        for answer in watching:
            answer.close()
    until = time.monotonic() + 10
    while counting.open and time.monotonic() < until:
        time.sleep(0.01)
    assert counting.open == 0


def test_watched_job_that_is_deleted_ends_its_stream(url: str, azure: AzureOpenAI, job_id: str) -> None:
    address = f"{url}/v1/fine_tuning/jobs/{job_id}/events?stream=true"
    with httpx2.stream("GET", address, headers=HEAD, timeout=30) as answer:
        texts = data_of(answer.iter_lines())
        next(texts)
        azure.fine_tuning.jobs.cancel(job_id)
        gone = httpx2.delete(f"{url}/openai/fine_tuning/jobs/{job_id}?{VERSION}", headers=HEAD)
        assert gone.status_code == 204
        assert list(texts)[-1] == "[DONE]"


def test_events_page_newest_first_at_every_path_and_verb(url: str, job_id: str, supervisor: Supervisor) -> None:
    for _ in range(5):
        supervisor.tick()
    for method in ("GET", "POST"):
        for path in ALL_EVENTS:
            address = url + path.format(job_id)
            first = page(method, address, limit=4)
            whole = page(method, address, limit=100)
            assert (first["has_more"], whole["has_more"]) == (True, False)
            second = page(method, address, limit=100, after=first["last_id"])
            assert [*first["data"], *second["data"]] == whole["data"]
            assert (first["first_id"], second["last_id"]) == (whole["first_id"], whole["last_id"])


def page(method: str, address: str, **query: int | str) -> dict[str, Any]:
    answer = httpx2.request(method, address, params={**query, **httpx2.URL(address).params}, headers=HEAD)
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize("path", OLD_EVENTS)
def test_root_asks_for_a_key_and_hides_other_jobs(url: str, path: str) -> None:
    assert httpx2.get(url + path.format("ftjob-none")).status_code == 401
    missing = httpx2.get(url + path.format("ftjob-none"), headers=HEAD)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "notFound")
    bad = httpx2.get(url + path.format("ftjob-none") + "?stream=true", headers=HEAD)
    assert bad.status_code == 404


def test_everything_below_a_deployment_is_what_it_is_without(url: str, job_id: str, supervisor: Supervisor) -> None:
    """openai up to 1.64 with `azure_deployment=` sends it so."""
    with OpenAI(
        base_url=f"{url}/openai/deployments/d", api_key=KEY, default_query={"api-version": "2024-10-21"}, max_retries=0
    ) as client:
        file = client.files.create(file=("rows.jsonl", rows.good()), purpose="fine-tune")
        assert client.files.content(file.id).read() == rows.good()
        made = client.fine_tuning.jobs.create(training_file=file.id, model=BASE)
        assert {job.id for job in client.fine_tuning.jobs.list()} == {job_id, made.id}
        for _ in range(5):
            supervisor.tick()
        assert len(list(client.fine_tuning.jobs.checkpoints.list(made.id))) == 2
        assert BASE in {model.id for model in client.models.list()}
        assert client.models.retrieve(BASE).id == BASE
        assert client.files.delete(file.id).deleted
    assert httpx2.get(f"{url}/openai/deployments/d/files", headers=HEAD).status_code == 400, "the version is asked for"


@pytest.mark.parametrize(
    "path", ["/v1/engines/{}/chat/completions", f"/openai/engines/{{}}/chat/completions?{VERSION}"]
)
def test_engine_in_the_path_answers_as_the_deployment(url: str, path: str, supervisor: Supervisor) -> None:
    arm = f"{url}/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/luthier/providers"
    arm += "/Microsoft.CognitiveServices/accounts/luthier/deployments/clippy"
    body = {"properties": {"model": {"name": BASE}}}
    assert httpx2.put(arm, headers=HEAD, json=body).status_code == 201
    supervisor.tick_deployments()
    question = {"messages": [{"role": "user", "content": "hi"}]}
    answer = httpx2.post(url + path.format("clippy"), headers=HEAD, json=question)
    assert answer.status_code == 200
    assert answer.json()["model"] == BASE
    assert httpx2.post(url + path.format("nobody"), headers=HEAD, json=question).status_code == 404


def test_checkpoints_page_with_the_ids_of_both_ends(url: str, job_id: str, supervisor: Supervisor) -> None:
    for _ in range(5):
        supervisor.tick()
    for prefix in ("/v1", "/openai/v1", "/openai"):
        for method in ("GET", "POST"):
            address = f"{url}{prefix}/fine_tuning/jobs/{job_id}/checkpoints?{VERSION}"
            first = page(method, address, limit=1)
            assert first["has_more"] is True
            assert first["first_id"] == first["last_id"] == first["data"][0]["id"]
            second = page(method, address, limit=1, after=first["last_id"])
            assert (second["has_more"], second["data"][0]["step_number"]) == (False, 2)
            assert page(method, address, limit=1, after=second["last_id"])["data"] == []
            refused = page(method, address, after="ftchkpt-none")["error"]
            assert refused["message"].startswith("after='ftchkpt-none' is no id of this list")
