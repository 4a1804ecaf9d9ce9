"""A whole import: out of another Luthier in each dialect, and out of an account of OpenAI's shapes."""

import json
from pathlib import Path

import httpx2
import pytest
from openai import OpenAI

import openai_account as fake
import rows
from elsewhere import RunImport, There
from fakes import BASE, KEY
from luthier.account_import.import_plan import ImportOptions
from luthier.core.errors import InvalidRequest
from luthier.service.background.supervisor import Supervisor
from openai_account import FakeAccount


@pytest.mark.parametrize(
    ("path", "version"),
    [("/v1", None), ("", None), ("/openai", "2024-10-21"), ("", "2025-04-01-preview"), ("/openai/v1/", None)],
)
def test_files_job_and_results_come_out_of_every_dialect(
    there: There, run_import: RunImport, openai_client: OpenAI, tmp_path: Path, path: str, version: str | None
) -> None:
    _, outcome = run_import(f"{there.url}{path}", version=version, options=ImportOptions(recreate=True))
    assert outcome.skipped == []
    imported = {file.id: file for file in openai_client.files.list()}
    assert {imported[outcome.files[name]].filename for name in there.files} == {"rows.jsonl", "held-out.jsonl"}
    assert openai_client.files.content(outcome.files[there.files[0]]).read() == rows.good(12)
    [job] = openai_client.fine_tuning.jobs.list()
    assert outcome.jobs == {there.jobs[0]: job.id}
    assert (job.training_file, job.validation_file) == tuple(outcome.files[name] for name in there.files)
    assert (job.model, job.seed, job.model_dump()["suffix"]) == (BASE, 7, "clippy")
    assert job.hyperparameters.model_dump() == {"n_epochs": 2, "batch_size": 2, "learning_rate_multiplier": 1.0}
    assert job.metadata is not None
    assert job.metadata["source_job"] == there.jobs[0]
    assert job.metadata["source_model"].endswith("-clippy")
    assert job.metadata["team"] == "paper"
    folder = tmp_path / "results" / there.jobs[0]
    assert (folder / "results.csv").read_bytes() == b"step,train_loss\n"
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert events[0]["message"].startswith("Base model")
    assert events[-1]["message"].startswith("Training tokens billed")
    assert [told["step_number"] for told in json.loads((folder / "checkpoints.json").read_text())] == [4, 2]
    assert json.loads((folder / "job.json").read_text())["id"] == there.jobs[0]
    assert {method for method, _ in there.asked} == {"GET"}


def test_account_of_openai_moves_and_what_cannot_is_named(
    account: FakeAccount, run_import: RunImport, openai_client: OpenAI, tmp_path: Path
) -> None:
    account.files += [fake_file("file-broken", status="error"), fake_file("file-empty", n_bytes=0)]
    account.jobs.append({"id": "ftjob-bare", "object": "fine_tuning.job", "status": "succeeded", "training_file": None})
    made, outcome = run_import(account.url, fake.KEY, ImportOptions(recreate=True))
    assert outcome.skipped == []
    assert {plan.file.id: plan.reason for plan in made.files if plan.reason} == {
        "file-broken": "refused there as no training file",
        "file-empty": "empty",
        "file-gone": "deleted there",
    }
    reasons = {plan.job.id: plan.reason for plan in made.jobs}
    assert reasons["ftjob-bare"] == "the source names no training file for it"
    assert reasons["ftjob-rft"] == "its method reinforcement cannot be trained here yet"
    assert "file-gone cannot be imported: deleted there" in (reasons["ftjob-gone"] or "")
    assert [(f.filename, f.bytes) for f in openai_client.files.list()] == [("puppy [bold].jsonl", len(rows.good(12)))]
    [job] = openai_client.fine_tuning.jobs.list()
    assert job.hyperparameters.model_dump() == {"n_epochs": 4, "batch_size": 2, "learning_rate_multiplier": 1.8}
    assert (job.model, job.seed, job.model_dump()["suffix"]) == (BASE, 683058546, "custom-suffix")
    assert job.metadata is not None
    assert job.metadata["source_model"] == fake.TUNED
    results = tmp_path / "results"
    assert (results / "ftjob-done" / "results.csv").read_bytes() == fake.RESULTS
    assert len((results / "ftjob-done" / "events.jsonl").read_text().splitlines()) == 250
    assert (results / "ftjob-rft" / "job.json").exists()
    assert {method for method, _ in account.asked} == {"GET"}


def test_second_run_brings_only_what_is_new_or_went_away(
    account: FakeAccount, run_import: RunImport, openai_client: OpenAI, tmp_path: Path
) -> None:
    options = ImportOptions(recreate=True)
    _, first = run_import(account.url, fake.KEY, options)
    made, again = run_import(account.url, fake.KEY, options)
    assert made.is_empty
    assert (again.files, again.archived, again.jobs) == ({}, [], {})
    account.jobs.insert(0, fake.job("ftjob-new", created_at=1721765000, status="running"))
    openai_client.files.delete(first.files["file-train"])
    _, third = run_import(account.url, fake.KEY, options)
    assert (list(third.files), third.archived, third.jobs) == (["file-train"], ["ftjob-new"], {})
    _, fourth = run_import(account.url, fake.KEY, options)
    assert fourth.archived == ["ftjob-new"]  # it runs there: its folder is not the last word
    account.jobs[0]["status"] = "succeeded"
    _, fifth = run_import(account.url, fake.KEY, options)
    assert list(fifth.jobs) == ["ftjob-new"]


def test_lost_state_file_makes_no_second_copy(
    account: FakeAccount, run_import: RunImport, openai_client: OpenAI, tmp_path: Path
) -> None:
    account.files.append(account.files[-1] | {"id": "file-twin"})
    account.contents["file-twin"] = account.contents["file-train"]
    _, first = run_import(account.url, fake.KEY, ImportOptions(recreate=True))
    before = (tmp_path / "state.json").read_bytes()
    (tmp_path / "state.json").unlink()
    _, again = run_import(account.url, fake.KEY, ImportOptions(recreate=True))
    assert set(again.files.values()) == set(first.files.values())
    assert len(list(openai_client.files.list())) == 2, (
        "two files there stay two files here, though their bytes are equal"
    )
    assert len(list(openai_client.fine_tuning.jobs.list())) == 1
    assert json.loads((tmp_path / "state.json").read_bytes())["jobs"] == json.loads(before)["jobs"]


def test_file_of_that_name_with_other_bytes_is_not_taken_for_it(
    account: FakeAccount, run_import: RunImport, openai_client: OpenAI
) -> None:
    other = rows.good(12).replace(b"brief", b"terse")
    mine = openai_client.files.create(file=("puppy [bold].jsonl", other), purpose="fine-tune").id
    _, outcome = run_import(account.url, fake.KEY)
    assert outcome.files["file-train"] != mine
    assert openai_client.files.content(outcome.files["file-train"]).read() == rows.good(12)


def test_chosen_job_comes_alone_whatever_its_state(account: FakeAccount, run_import: RunImport) -> None:
    account.jobs.append(fake.job("ftjob-failed", status="failed", validation_file="file-gone"))
    account.files.append(fake_file("file-other"))
    made, outcome = run_import(account.url, fake.KEY, ImportOptions(only=frozenset({"ftjob-failed"})))
    assert (list(outcome.files), outcome.archived, list(outcome.jobs)) == (
        ["file-train"],
        ["ftjob-failed"],
        ["ftjob-failed"],
    )
    assert made.jobs_to_create[0].notes[0] == "without its validation file file-gone: deleted there"
    with pytest.raises(InvalidRequest, match="no job ftjob-nobody"):
        run_import(account.url, fake.KEY, ImportOptions(only=frozenset({"ftjob-nobody"})))


def test_model_is_mapped_or_the_job_says_how(
    account: FakeAccount, run_import: RunImport, supervisor: Supervisor
) -> None:
    account.jobs = [
        fake.job("ftjob-child", model=fake.TUNED, created_at=1721765000),
        fake.job("ftjob-other", model="davinci-002"),
        fake.job("ftjob-done", fine_tuned_model=fake.TUNED),
    ]
    made, _ = run_import(account.url, fake.KEY, ImportOptions(recreate=True))
    reasons = {plan.job.id: plan.reason or "" for plan in made.jobs}
    assert f"it continues from {fake.TUNED}" in reasons["ftjob-child"]
    assert "--map davinci-002=NAME" in reasons["ftjob-other"]
    with pytest.raises(InvalidRequest, match="no model 'nobody' here"):
        run_import(account.url, fake.KEY, ImportOptions(recreate=True, models={"davinci-002": "nobody"}))
    for _ in range(4):
        supervisor.tick()
    made, outcome = run_import(account.url, fake.KEY, ImportOptions(recreate=True, models={"davinci-002": BASE}))
    models = {plan.job.id: plan.model or "" for plan in made.jobs_to_create}
    assert models["ftjob-other"] == BASE
    assert models["ftjob-child"].startswith(f"{BASE}.ft-"), "the job that made it was trained here meanwhile"
    assert list(outcome.jobs) == ["ftjob-other", "ftjob-child"], "oldest first"


def test_job_with_rows_of_images_stays_and_its_file_comes(account: FakeAccount, run_import: RunImport) -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}
    row = {"messages": [{"role": "user", "content": [part]}, {"role": "assistant", "content": "A cat."}]}
    account.contents["file-train"] = rows.good(12) + json.dumps(row).encode()
    account.files[-1]["bytes"] = len(account.contents["file-train"])
    made, outcome = run_import(account.url, fake.KEY, ImportOptions(recreate=True))
    assert list(outcome.files) == ["file-train"]
    assert [(left.id, left.reason) for left in outcome.skipped] == [
        ("ftjob-done", "rows of file-train hold images, which cannot be trained on here yet")
    ]
    made, _ = run_import(account.url, fake.KEY, ImportOptions(recreate=True))
    assert "hold images" in ({plan.job.id: plan.reason for plan in made.jobs}["ftjob-done"] or "")


def test_job_refused_here_is_named_with_the_reason_and_the_rest_goes_on(
    account: FakeAccount, run_import: RunImport, openai_client: OpenAI
) -> None:
    account.jobs.append(fake.job("ftjob-many", method=None, hyperparameters={"n_epochs": 400}, created_at=1))
    _, outcome = run_import(account.url, fake.KEY, ImportOptions(recreate=True))
    [left] = outcome.skipped
    assert left.id == "ftjob-many"
    assert "n_epochs" in left.reason
    assert list(outcome.jobs) == ["ftjob-done"]


def test_service_here_that_asks_to_wait_is_waited_for_and_gets_each_thing_once(
    account: FakeAccount, run_import: RunImport, openai_client: OpenAI, url: str
) -> None:
    refused = []

    class Busy(httpx2.HTTPTransport):
        """Refuses the first of each kind of POST before it reaches the service."""

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            if request.method == "POST" and request.url.path not in refused:
                request.read()
                refused.append(request.url.path)
                return httpx2.Response(429, headers={"retry-after": "0.05"}, json={"error": {"message": "busy"}})
            return super().handle_request(request)

    with OpenAI(base_url=f"{url}/v1", api_key=KEY, http_client=httpx2.Client(transport=Busy())) as api:
        _, outcome = run_import(account.url, fake.KEY, ImportOptions(recreate=True), api)
    assert refused == ["/v1/files", "/v1/fine_tuning/jobs"]
    assert outcome.skipped == []
    assert [file.bytes for file in openai_client.files.list()] == [len(rows.good(12))]
    assert len(list(openai_client.fine_tuning.jobs.list())) == 1


def fake_file(name: str, status: str = "processed", n_bytes: int = 10) -> dict[str, object]:
    told = {"id": name, "object": "file", "bytes": n_bytes, "created_at": 1, "filename": f"{name}.jsonl"}
    return told | {"purpose": "fine-tune", "status": status}
