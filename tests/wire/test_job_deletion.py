"""Jobs deleted and models deleted, in every dialect; what stands in the way, and what stays. Wrong states by name."""

import httpx2
import openai
import pytest
from openai import OpenAI

import rows
from fakes import BASE, KEY, ScriptedExecutor
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Started
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.tenants.keys import DEFAULT_RESOURCE
from luthier.store import schema
from sharing import delete, put, train

PREFIXES = ["/v1", "/openai", "/openai/v1"]
HEAD = {"api-key": KEY}


def drop(url: str, prefix: str, job_id: str) -> httpx2.Response:
    address = f"{url}{prefix}/fine_tuning/jobs/{job_id}"
    return httpx2.delete(address, headers=HEAD, params={"api-version": "2024-10-21"})


def n_rows(context: Context) -> dict[str, int]:
    tables = (schema.jobs, schema.events, schema.attempts, schema.checkpoints)
    with context.database.reading() as tx:
        return {table.name: len(tx.execute(table.select()).all()) for table in tables}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_deleted_job_takes_all_but_its_files_with_it(
    url: str, supervisor: Supervisor, context: Context, openai_client: OpenAI, prefix: str
) -> None:
    job_id, model = train(url, supervisor)
    supervisor.tick()
    kept = openai_client.fine_tuning.jobs.retrieve(job_id)
    gone = drop(url, prefix, job_id)
    assert (gone.status_code, gone.content) == (204, b"")
    assert drop(url, prefix, job_id).status_code == 404
    assert set(n_rows(context).values()) == {0}
    for look in (openai_client.fine_tuning.jobs.retrieve, openai_client.fine_tuning.jobs.list_events):
        with pytest.raises(openai.NotFoundError):
            look(job_id)
    with pytest.raises(openai.NotFoundError):
        openai_client.models.retrieve(model)
    assert not list((context.served_folder.parent / "blobs" / "checkpoints").rglob("*.safetensors"))
    assert openai_client.files.content(kept.result_files[0]).read()
    assert openai_client.files.retrieve(kept.training_file).id


def test_job_is_not_deleted_before_its_end_nor_while_its_model_is_deployed(
    url: str, supervisor: Supervisor, openai_client: OpenAI
) -> None:
    file = openai_client.files.create(file=("rows.jsonl", rows.good()), purpose="fine-tune")
    waiting = openai_client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    refused = drop(url, "/openai", waiting.id)
    assert (refused.status_code, refused.headers["x-should-retry"]) == (409, "false")
    assert "is validating_files; cancel it first" in refused.json()["error"]["message"]
    openai_client.fine_tuning.jobs.cancel(waiting.id)
    assert drop(url, "/openai", waiting.id).status_code == 204
    job_id, model = train(url, supervisor)
    put(url, DEFAULT_RESOURCE, "clippy", f"{model}:ckpt-step-2")
    refused = drop(url, "/openai", job_id)
    assert (refused.status_code, refused.headers["x-should-retry"]) == (409, "false")
    assert "deployment clippy uses it" in refused.json()["error"]["message"]
    assert len(list(openai_client.fine_tuning.jobs.checkpoints.list(job_id))) == 2
    delete(url, DEFAULT_RESOURCE, "clippy")
    assert drop(url, "/openai", job_id).status_code == 204


def test_job_deleted_while_its_trainer_is_still_there_is_cleared_away(
    url: str, supervisor: Supervisor, executor: ScriptedExecutor, context: Context, openai_client: OpenAI
) -> None:
    def begin(run: RunDirectory) -> None:
        run.append(Started(at=100.0, n_steps=4, n_examples=10, n_tokens=100, supervised_tokens=40))

    executor.trainer, executor.alive = begin, {"fake:1"}
    file = openai_client.files.create(file=("rows.jsonl", rows.good()), purpose="fine-tune")
    job = openai_client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    for _ in range(3):
        supervisor.tick()
    openai_client.fine_tuning.jobs.cancel(job.id)
    assert drop(url, "/v1", job.id).status_code == 204
    assert list(openai_client.fine_tuning.jobs.list()) == []
    with pytest.raises(openai.NotFoundError):
        openai_client.fine_tuning.jobs.retrieve(job.id)
    assert (context.runs_folder / job.id).exists()
    supervisor.tick()
    assert executor.killed == ["fake:1"]
    assert not (context.runs_folder / job.id).exists()
    assert set(n_rows(context).values()) == {0}


def test_models_are_listed_read_and_deleted_in_every_dialect(
    url: str, supervisor: Supervisor, azure: OpenAI, azure_v1: OpenAI, openai_client: OpenAI
) -> None:
    for client in (azure, azure_v1, openai_client):
        _, model = train(url, supervisor)
        found = {listed.id for listed in client.models.list()}
        assert {BASE, model, f"{model}:ckpt-step-2"} <= found
        assert client.models.retrieve(f"{model}:ckpt-step-2").owned_by == "user"
        put(url, DEFAULT_RESOURCE, "clippy", model)
        with pytest.raises(openai.ConflictError, match="deployment clippy uses it") as caught:
            client.models.delete(model)
        assert caught.value.response.headers["x-should-retry"] == "false"
        delete(url, DEFAULT_RESOURCE, "clippy")
        gone = client.models.delete(f"{model}:ckpt-step-2")
        assert (gone.id, gone.object, gone.deleted) == (f"{model}:ckpt-step-2", "model", True)
        assert client.models.retrieve(model).id == model
        assert client.models.delete(model).deleted
        assert not {listed.id for listed in client.models.list() if model in listed.id}
        with pytest.raises(openai.NotFoundError):
            client.models.delete(model)


STATES = ["validating_files", "queued", "running", "pausing", "paused", "succeeded", "failed", "cancelled"]
ALLOWED = {"cancel": STATES[:5], "pause": ["running"], "resume": ["paused"]}


@pytest.mark.parametrize("act", ["cancel", "pause", "resume"])
def test_wrong_state_is_a_409_that_names_it_and_is_not_asked_again(
    url: str, context: Context, openai_client: OpenAI, act: str
) -> None:
    file = openai_client.files.create(file=("rows.jsonl", rows.good()), purpose="fine-tune")
    job = openai_client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    for prefix in PREFIXES:
        for state in STATES:
            with context.database.writing() as tx:
                tx.execute(schema.jobs.update().values(status=state))
            answer = httpx2.post(
                f"{url}{prefix}/fine_tuning/jobs/{job.id}/{act}", headers=HEAD, params={"api-version": "2024-10-21"}
            )
            if state in ALLOWED[act]:
                assert answer.status_code == 200, (state, answer.text)
            else:
                assert answer.status_code == 409, state
                assert answer.headers["x-should-retry"] == "false"
                assert state in answer.json()["error"]["message"]
