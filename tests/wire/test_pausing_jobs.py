"""Pause, resume and attempts as the official clients ask for them, in every dialect."""

from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI

import rows
from fakes import BASE, KEY, ScriptedExecutor, train_well
from luthier.core.training.executor_port import Ending
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Metrics, Started
from luthier.service.background.supervisor import Supervisor

WORDS = {"azure": ("pausing", "pending"), "azure_v1": ("pausing", "pending"), "openai": ("running", "queued")}
PREFIX = {"azure": "/openai", "azure_v1": "/openai/v1", "openai": "/v1"}


@pytest.fixture(params=["azure", "azure_v1", "openai"])
def dialect(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def client(request: pytest.FixtureRequest, dialect: str) -> OpenAI:
    made: OpenAI = request.getfixturevalue("openai_client" if dialect == "openai" else dialect)
    # `paused` is none of the six words that the SDK's strict mode takes, though OpenAI's own example answers with it.
    return made.with_options() if dialect != "openai" else OpenAI(base_url=made.base_url, api_key=KEY, max_retries=0)


def first_step(run: RunDirectory) -> None:
    run.append(Started(at=100.0, n_steps=4, n_examples=10, n_tokens=100, supervised_tokens=40))
    run.append(Metrics(at=101.0, step=1, n_steps=4, train_loss=1.0, train_mean_token_accuracy=0.5))


@pytest.fixture
def job_id(client: OpenAI, supervisor: Supervisor, executor: ScriptedExecutor) -> str:
    """A running job after its first step."""
    executor.trainer = first_step
    executor.alive = {"fake:1"}
    file = client.files.create(file=("rows.jsonl", rows.good()), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(training_file=file.id, model=BASE)
    for _ in range(4):
        supervisor.tick()
    return job.id


def attempts(url: str, dialect: str, job_id: str, **query: int | str) -> dict[str, Any]:
    address = f"{url}{PREFIX[dialect]}/fine_tuning/jobs/{job_id}/attempts"
    answer = httpx2.get(address, params={"api-version": "2024-10-21", **query}, headers={"api-key": KEY})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_running_job_is_paused_resumed_and_ends_well(
    client: OpenAI, dialect: str, supervisor: Supervisor, executor: ScriptedExecutor, job_id: str
) -> None:
    pausing, waiting = WORDS[dialect]
    jobs = client.fine_tuning.jobs
    assert jobs.pause(job_id).status == pausing
    supervisor.tick()
    assert jobs.retrieve(job_id).status == pausing
    executor.alive.clear()
    supervisor.tick()
    paused = jobs.retrieve(job_id)
    assert paused.to_dict()["status"] == "paused"
    assert not paused.finished_at
    executor.trainer = train_well
    assert jobs.resume(job_id).status == waiting
    for _ in range(4):
        supervisor.tick()
    assert jobs.retrieve(job_id).status == "succeeded"


def test_wrong_state_is_a_conflict_that_is_not_asked_again(
    client: OpenAI, dialect: str, url: str, supervisor: Supervisor, executor: ScriptedExecutor, job_id: str
) -> None:
    with pytest.raises(openai.ConflictError, match="only a paused job can be resumed"):
        client.fine_tuning.jobs.resume(job_id)
    client.fine_tuning.jobs.pause(job_id)
    with pytest.raises(openai.ConflictError, match="only a running job can be paused") as caught:
        client.fine_tuning.jobs.pause(job_id)
    assert caught.value.response.headers["x-should-retry"] == "false"
    for act in (client.fine_tuning.jobs.pause, client.fine_tuning.jobs.resume):
        with pytest.raises(openai.NotFoundError):
            act("ftjob-none")


def test_strict_client_reads_a_pausing_job(openai_client: OpenAI, supervisor: Supervisor, job_id: str) -> None:
    assert openai_client.fine_tuning.jobs.pause(job_id).status == "running"


def test_attempts_come_newest_first_page_to_the_end_and_stand_in_no_job(
    client: OpenAI, url: str, dialect: str, supervisor: Supervisor, executor: ScriptedExecutor, job_id: str
) -> None:
    [running] = attempts(url, dialect, job_id)["data"]
    assert (running["object"], running["number"], running["last_step"]) == ("fine_tuning.job.attempt", 1, 1)
    assert running.get("ended_at") is running.get("end") is running.get("message") is None
    assert ("end" in running) is (dialect == "openai")
    executor.endings["fake:1"] = Ending(signal=9)
    executor.alive = {"fake:2"}
    executor.trainer = lambda run: None
    for _ in range(4):
        supervisor.tick()
    page = attempts(url, dialect, job_id, limit=1)
    assert (page["has_more"], [attempt["number"] for attempt in page["data"]]) == (True, [2])
    page = attempts(url, dialect, job_id, limit=1, after=page["last_id"])
    [first] = page["data"]
    assert (page["has_more"], first["number"], first["end"], first["fine_tuning_job_id"]) == (
        False,
        1,
        "killed",
        job_id,
    )
    assert first["message"] == "The trainer was killed (signal 9)."
    assert first["started_at"] <= first["ended_at"]
    assert "attempts" not in client.fine_tuning.jobs.retrieve(job_id).model_dump()
    events = client.fine_tuning.jobs.list_events(job_id)
    [warning] = [event for event in events if event.level.startswith("warn")]
    text = "The trainer was killed (signal 9) after step 1; continuing from the last saved step, attempt 2."
    assert warning.message == text
