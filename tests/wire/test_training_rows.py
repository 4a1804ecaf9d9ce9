"""Rows of a training file as the model sees them, and those that a job has learned least."""

import json
from typing import Any

import httpx2
import pytest
from openai import OpenAI

import rows
import tiny
from fakes import BASE, KEY, ScriptedExecutor, train_well
from luthier.run_directory.run_directory import RunDirectory
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.files import shown_rows

HEAD = {"api-key": KEY}


@pytest.fixture(autouse=True)
def tokenizer(context: Context) -> None:
    tiny.tokenizer_folder(context.base_folder(BASE) / "hf")


def get(url: str, path: str, **query: Any) -> httpx2.Response:
    return httpx2.get(f"{url}/luthier/{path}", params=query, headers=HEAD, timeout=30)


def upload(client: OpenAI, content: bytes, purpose: Any = "fine-tune") -> str:
    return client.files.create(file=("rows.jsonl", content), purpose=purpose).id


def text_of(sequence: dict[str, Any], *, learned: bool) -> str:
    return "".join(segment["text"] for segment in sequence["segments"] if segment["learned"] is learned)


def test_rows_come_with_what_is_learned_of_them_page_by_page(url: str, file: str) -> None:
    first = get(url, f"files/{file}/rows", model=BASE, limit=4).json()
    assert (first["object"], first["file_id"], first["model"]) == ("luthier.file_rows", file, BASE)
    assert ([row["line"] for row in first["data"]], first["has_more"], first["next_after"]) == ([1, 2, 3, 4], True, 4)
    [sequence] = first["data"][2]["sequences"]
    assert "It is 3." in text_of(sequence, learned=True)
    assert "What is 2 plus one?" in text_of(sequence, learned=False)
    assert sum(segment["tokens"] for segment in sequence["segments"]) == sequence["tokens"]
    assert sum(one["tokens"] for one in sequence["segments"] if one["learned"]) == sequence["learned_tokens"]
    last = get(url, f"files/{file}/rows", model=BASE, after=8, limit=4).json()
    assert ([row["line"] for row in last["data"]], last["has_more"]) == ([9, 10], False)
    assert get(url, f"files/{file}/rows", model=BASE, after=10).json()["data"] == []


def test_row_with_an_error_has_its_problem_in_the_place_of_text(url: str, openai_client: OpenAI) -> None:
    file = upload(openai_client, rows.good(2) + b'{"messages": []}\n{"messages"\n')
    found = get(url, f"files/{file}/rows", model=BASE).json()["data"]
    assert [bool(row["sequences"]) for row in found] == [True, True, False, False]
    assert [row["problems"][0]["line"] for row in found[2:]] == [3, 4]
    assert found[2]["problems"][0]["severity"] == "error"


def test_long_rows_are_cut_and_the_longest_are_not_rendered(url: str, openai_client: OpenAI) -> None:
    def row(words: str) -> bytes:
        turns = [{"role": "user", "content": words}, {"role": "assistant", "content": "Yes."}]
        return json.dumps({"messages": turns}).encode() + b"\n"

    file = upload(openai_client, row("a " * shown_rows.MAX_ROW_BYTES) + row("short"))
    longest, short = get(url, f"files/{file}/rows", model=BASE).json()["data"]
    assert (longest["truncated"], longest["sequences"]) == (True, [])
    assert longest["problems"][0]["code"] == "row_too_long_to_show"
    assert short["sequences"]


@pytest.mark.parametrize(
    ("model", "status"), [("no-such-model", 404), ("qwen3-0.6b", 400)], ids=["unknown", "not-pulled"]
)
def test_model_that_cannot_render_is_refused(url: str, file: str, model: str, status: int) -> None:
    refused = get(url, f"files/{file}/rows", model=model)
    assert refused.status_code == status
    assert refused.json()["error"]["message"]


def test_model_is_asked_for_only_once_the_file_is_the_callers(url: str, file: str) -> None:
    refused = get(url, f"files/{file}/rows")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "model")
    assert get(url, f"files/file-{'0' * 32}/rows").status_code == 404


def test_file_that_is_no_training_data_is_refused(url: str, openai_client: OpenAI) -> None:
    refused = get(url, f"files/{upload(openai_client, b'abc', 'user_data')}/rows", model=BASE)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_purpose")


def test_hardest_rows_are_those_of_the_greatest_last_loss_with_their_text(
    url: str, openai_client: OpenAI, file: str, supervisor: Supervisor, executor: ScriptedExecutor
) -> None:
    def train(run: RunDirectory) -> None:
        header = "line,tokens,supervised_tokens,first_epoch_loss,last_epoch_loss\n"
        losses = [f"{line},30,5,{4.0},{line % 7 / 10}" for line in range(1, 11)]
        run.example_losses.write_text(header + "\n".join(losses) + "\n")
        train_well(run)

    executor.trainer = train
    job = openai_client.fine_tuning.jobs.create(training_file=file, model=BASE)
    waiting = get(url, f"jobs/{job.id}/hardest-rows").json()
    assert (waiting["data"], waiting["reason"]) == (
        [],
        "The losses of single rows are known when the job has succeeded.",
    )
    for _ in range(5):
        supervisor.tick()
    found = get(url, f"jobs/{job.id}/hardest-rows", limit=3).json()
    assert [(row["line"], row["last_loss"]) for row in found["data"]] == [(6, 0.6), (5, 0.5), (4, 0.4)]
    assert (found["reason"], found["training_file"]) == (None, file)
    assert (found["data"][0]["first_loss"], found["data"][0]["learned_tokens"]) == (4.0, 5)
    assert "It is 6." in text_of(found["data"][0]["sequences"][0], learned=True)
    openai_client.files.delete(file)
    without = get(url, f"jobs/{job.id}/hardest-rows", limit=1).json()
    assert without["data"][0]["sequences"] == []
    assert without["reason"].startswith("The rows cannot be shown: There is no file")


def test_hardest_rows_of_a_job_without_losses_say_why(
    url: str, openai_client: OpenAI, file: str, supervisor: Supervisor
) -> None:
    job = openai_client.fine_tuning.jobs.create(training_file=file, model=BASE)
    for _ in range(5):
        supervisor.tick()
    found = get(url, f"jobs/{job.id}/hardest-rows").json()
    assert (found["data"], "has succeeded" in found["reason"]) == ([], True)
