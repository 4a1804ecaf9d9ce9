"""What is wrong with a file: in its details, in its report, in the error and the events of a job, in every dialect."""

import json
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from openai import AzureOpenAI, OpenAI

import rows
import tiny
from fakes import BASE, KEY, ScriptedExecutor
from luthier.core.training.pricing import Price
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.files import files, throughput_history
from luthier.service.models.serving import Serving

BAD = b'{"messages": [{"role": "user", "content": "?", "weight": 1}, {"role": "assistant", "content": "!"}]}\n'
FAULTS = b"""{"messages": []}
{"messages": 3}
{"messages": "x"}
{"messages": null}
{"messages": {}}
{
{}
[]
3
"x"
null
{"messages": [{"role": "user", "content": "?"}]}
"""
"""Twelve rows with a fault of its own each."""
PREFIX = {"azure": "/openai", "azure_v1": "/openai/v1", "openai_client": "/v1"}


@pytest.fixture(params=PREFIX)
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(request: pytest.FixtureRequest, dialect: str) -> OpenAI | AzureOpenAI:
    made: OpenAI = request.getfixturevalue(dialect)
    return made


def upload(client: OpenAI, data: bytes) -> str:
    return client.files.create(file=("rows.jsonl", data), purpose="fine-tune").id


def report(url: str, dialect: str, file_id: str, **query: str) -> Any:
    versions = {"api-version": "2024-10-21"} if dialect == "azure" else {}
    address = f"{url}{PREFIX[dialect]}/files/{file_id}/report"
    headers = {"api-key": KEY, "Authorization": f"Bearer {KEY}"}
    return httpx2.get(address, params=query | versions, headers=headers, timeout=30)


def details(client: OpenAI, file_id: str) -> str | None:
    return client.files.retrieve(file_id).status_details


def test_bad_file_is_taken_and_its_details_say_what_is_wrong_once_it_was_looked_at(
    client: OpenAI, supervisor: Supervisor
) -> None:
    file_id = upload(client, rows.good(9) + BAD * 8)
    assert details(client, file_id) is None
    supervisor.tick()
    found = client.files.retrieve(file_id)
    assert found.status == "processed"
    assert found.status_details is not None
    first, *listed, last = found.status_details.splitlines()
    assert first == "The file cannot be trained on: 8 error(s), 0 warning(s)."
    assert listed == []
    assert last.startswith("- Lines 10-17 (8 in all): messages[0].weight: weight is set on a user message")
    assert client.files.wait_for_processing(file_id).status == "processed"


def test_good_file_has_no_details_and_one_for_validation_is_only_told_to_be_small(
    client: OpenAI, supervisor: Supervisor
) -> None:
    good, small = upload(client, rows.good()), upload(client, rows.good(3))
    supervisor.tick()
    supervisor.tick()
    assert details(client, good) is None
    assert "training needs at least 10" in (details(client, small) or "")
    assert "can be trained on: 0 error(s), 1 warning(s)" in (details(client, small) or "")


def test_report_has_every_problem_with_line_and_place(client: OpenAI, dialect: str, url: str) -> None:
    file_id = upload(client, rows.good(9) + BAD + b"{\n" + rows.good(1))
    told = report(url, dialect, file_id).json()
    assert (told["object"], told["file_id"], told["valid"]) == ("file.report", file_id, False)
    assert [(one["line"], one["path"], one["code"], one["severity"]) for one in told["problems"]] == [
        (10, "messages[0].weight", "misplaced_weight", "error"),
        (11, "", "truncated_json", "error"),
        (12, "", "duplicate_example", "warning"),
    ]
    assert all(one["message"] and one["fix"] for one in told["problems"])
    numbers = told["statistics"]
    assert (numbers["rows"], numbers["good_rows"], numbers["warned_rows"], numbers["bad_rows"]) == (12, 9, 1, 2)
    assert numbers["tokens"] is None
    assert report(url, dialect, file_id).json() == told, "it is made once"


def test_report_names_a_key_of_the_rows_own(client: OpenAI, dialect: str, url: str) -> None:
    """The fixture `url` holds the answer to the OpenAPI document, which would not know the key."""
    file_id = upload(client, rows.good(9) + rows.good(1).replace(b'{"messages"', b'{"topic": 1, "messages"'))
    keys = [one.get("key") for one in report(url, dialect, file_id).json()["problems"]]
    assert "topic" in keys


def test_report_is_made_anew_for_a_model_and_counts_its_tokens(
    client: OpenAI, dialect: str, url: str, context: Context
) -> None:
    file_id = upload(client, rows.good())
    assert report(url, dialect, file_id).json()["model"] is None
    assert report(url, dialect, file_id, model=BASE).json()["statistics"]["tokens"] is None, "it is not here yet"
    tiny.tokenizer_folder(context.base_folder(BASE) / "hf")
    told = report(url, dialect, file_id, model="gpt-4o-mini").json()
    assert told["model"] == BASE
    assert told["statistics"]["tokens"]["tokens"]["total"] > told["statistics"]["tokens"]["supervised"]["total"] > 0
    other = report(url, dialect, file_id, method="dpo").json()
    assert (other["method"], {one["code"] for one in other["problems"]}) == ("dpo", {"supervised_row"})
    assert details(client, file_id) is None, "what was only asked for does not stay"
    assert report(url, dialect, file_id).json()["method"] == "supervised"


def test_pairs_are_checked_as_pairs_unasked(client: OpenAI, dialect: str, url: str) -> None:
    said = {key: [{"role": "assistant", "content": key}] for key in ("preferred_output", "non_preferred_output")}
    pair = {"input": {"messages": [{"role": "user", "content": "Tea?"}]}} | said
    told = report(url, dialect, upload(client, json.dumps(pair).encode())).json()
    assert (told["method"], [one["code"] for one in told["problems"]]) == ("dpo", ["too_few_to_train"])


@pytest.mark.parametrize(("query", "code"), [({"model": "none"}, 400), ({"method": "magic"}, 400)])
def test_report_for_what_there_is_not_is_refused(
    client: OpenAI, dialect: str, url: str, query: dict[str, str], code: int
) -> None:
    assert report(url, dialect, upload(client, rows.good()), **query).status_code == code


def test_file_of_another_kind_has_no_report(client: OpenAI, dialect: str, url: str) -> None:
    if dialect == "openai_client":  # Azure takes training data alone
        file = client.files.create(file=("a.bin", b"x"), purpose="user_data")
        assert report(url, dialect, file.id).status_code == 400
    assert report(url, dialect, "file-none").status_code == 404


def test_report_goes_with_its_file(client: OpenAI, dialect: str, url: str, context: Context) -> None:
    file_id = upload(client, rows.good())
    report(url, dialect, file_id)
    assert b"".join(context.blobs.open(files.report_key(file_id)))
    client.files.delete(file_id)
    assert report(url, dialect, file_id).status_code == 404
    assert list(context.blobs.stored("reports")) == []


def test_row_too_long_for_the_model_fails_the_job_before_a_trainer_starts(
    client: OpenAI, supervisor: Supervisor, executor: ScriptedExecutor, context: Context
) -> None:
    tiny.tokenizer_folder(context.base_folder(BASE) / "hf")
    long = {"messages": [{"role": "user", "content": "1 " * 9000}, {"role": "assistant", "content": "Yes."}]}
    file_id = upload(client, rows.good() + json.dumps(long).encode())
    job = client.fine_tuning.jobs.create(training_file=file_id, model=BASE)
    supervisor.tick()
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert (job.status, executor.started) == ("failed", [])
    assert job.error is not None
    assert "Line 11, messages: the example has" in job.error.message
    assert "reads at most 8,192" in job.error.message


def test_error_of_a_job_lists_the_first_problems_and_says_where_the_others_are(
    client: OpenAI, supervisor: Supervisor
) -> None:
    file_id = upload(client, rows.good() + BAD * 20 + FAULTS)
    job = client.fine_tuning.jobs.create(training_file=file_id, model=BASE)
    supervisor.tick()
    job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.error is not None
    first, *listed, last = job.error.message.splitlines()
    assert first == f"training_file {file_id} cannot be used: 32 problem(s):"
    assert len(listed) == 10
    assert listed[0].startswith("- Lines 11-30 (20 in all): messages[0].weight: weight is set on a user message")
    assert listed[1].startswith("- Line 31, messages: messages is an empty array")
    assert last == f"and 3 more of other kinds: GET .../files/{file_id}/report lists them."
    assert details(client, file_id) is not None


def test_warnings_are_events_by_kind_and_the_job_goes_on(client: OpenAI, supervisor: Supervisor) -> None:
    training, validation = upload(client, rows.good() + rows.good(2)), upload(client, rows.good(1))
    job = client.fine_tuning.jobs.create(training_file=training, validation_file=validation, model=BASE)
    for _ in range(6):
        supervisor.tick()
    assert client.fine_tuning.jobs.retrieve(job.id).status == "succeeded"
    told = [event for event in client.fine_tuning.jobs.list_events(job.id) if event.level in ("warn", "warning")]
    texts = [event.message for event in told if "duplicate" in event.message or "leaked" in event.message]
    assert sorted(text.partition(". ")[0] for text in texts) == [
        f"training_file {training}, lines 11-12: duplicate_example",
        f"validation_file {validation}, line 1: leaked_example",
    ]


def test_secret_is_told_nowhere(client: OpenAI, dialect: str, url: str, supervisor: Supervisor) -> None:
    secret = "ghp_" + "a1B2c3D4e5F6" * 3
    row = {"messages": [{"role": "user", "content": "Key?"}, {"role": "assistant", "content": f"It is {secret}."}]}
    file_id = upload(client, rows.good() + json.dumps(row).encode())
    supervisor.tick()
    answer = report(url, dialect, file_id)
    assert [one["code"] for one in answer.json()["problems"]] == ["secret"]
    assert secret not in answer.text
    assert secret not in (details(client, file_id) or "")


def test_job_tells_what_it_will_come_to_and_its_price_before_and_after(
    client: OpenAI, dialect: str, url: str, context: Context, serving: Serving, executor: ScriptedExecutor
) -> None:
    tiny.tokenizer_folder(context.base_folder(BASE) / "hf")
    priced = Supervisor(replace(context, price=Price(5.0, "EUR")), executor, serving, tick_s=0.01)
    file_id = upload(client, rows.good())
    job = client.fine_tuning.jobs.create(training_file=file_id, model=BASE, hyperparameters={"n_epochs": 2})
    for _ in range(6):
        priced.tick()
    messages = [event.message for event in client.fine_tuning.jobs.list_events(job.id)]
    tokens = report(url, dialect, file_id).json()["statistics"]["tokens"]["tokens"]["total"]
    (before,) = [text for text in messages if text.startswith("A job: 2 epochs in batches of 2, 10 steps")]
    assert f"{2 * tokens:,} tokens" in before
    assert before.endswith(f"{2 * tokens * 5 / 1e6:,.4f} EUR.")
    assert messages[0] == "Price of these tokens: 0.0010 EUR", "of the 200 that the trainer tells"
    run = report(url, dialect, file_id).json()["statistics"]["run"]
    assert run["currency"] == "EUR"
    assert [rate.tokens for rate in throughput_history.read_records(context.data_folder)[BASE]] == [200]
