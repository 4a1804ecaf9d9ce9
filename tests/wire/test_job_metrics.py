"""GET /luthier/jobs/{job_id}/metrics: columns for a chart, what is new behind a cursor, CSV, and 304."""

import csv
import io
import math
from typing import Any

import httpx2
import pytest
from openai import OpenAI

from fakes import BASE, KEY, ScriptedExecutor, save_checkpoint
from luthier.core.states import JobStatus
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import CheckpointSaved, Metrics, Rewards, Started, Succeeded
from luthier.service.background.supervisor import Supervisor

START = 1_800_000_000.0
FIGURES = {
    "train_loss",
    "train_mean_token_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
    "full_valid_loss",
    "full_valid_mean_token_accuracy",
    "learning_rate",
    "gradient_norm",
}


def step_of(step: int, n_steps: int = 90, **more: Any) -> Metrics:
    course = {"learning_rate": 1e-4 * step, "gradient_norm": 0.5 + step, "trained_tokens": 100 * step}
    return Metrics(
        at=START + step,
        step=step,
        n_steps=n_steps,
        train_loss=math.exp(-step / 30),
        train_mean_token_accuracy=0.5,
        **course | more,
    )


def first_steps(run: RunDirectory) -> None:
    run.append(Started(at=START, n_steps=90, n_examples=10, n_tokens=100, supervised_tokens=40))
    for step in range(1, 61):
        full = {"full_valid_loss": 1.0 + abs(step - 30), "full_valid_mean_token_accuracy": 0.25}
        run.append(step_of(step, **full if step % 30 == 0 else {}))
        if step % 30 == 0:
            save_checkpoint(run, step, START + step)


@pytest.fixture
def job_id(openai_client: OpenAI, file: str, supervisor: Supervisor, executor: ScriptedExecutor) -> str:
    """A job in its 60th step of 90."""
    executor.trainer, executor.alive = first_steps, {"fake:1"}
    job = openai_client.fine_tuning.jobs.create(training_file=file, model=BASE)
    for _ in range(4):
        supervisor.tick()
    return job.id


@pytest.fixture
def run(executor: ScriptedExecutor, job_id: str) -> RunDirectory:
    return RunDirectory(executor.started[0])


def get(url: str, job_id: str, headers: dict[str, str] | None = None, **query: Any) -> httpx2.Response:
    address = f"{url}/luthier/jobs/{job_id}/metrics"
    return httpx2.get(address, params=query, headers={"api-key": KEY} | (headers or {}), timeout=30)


def test_metrics_are_columns_of_one_length_with_null_where_nothing_was_computed(url: str, job_id: str) -> None:
    found = get(url, job_id).json()
    assert (found["object"], found["job_id"], found["status"]) == ("luthier.job_metrics", job_id, JobStatus.RUNNING)
    assert (found["n_steps"], found["n_rows"], found["reduced"]) == (90, 60, False)
    assert found["step"] == list(range(1, 61))
    assert found["at"][:2] == [START + 1, START + 2]
    assert found["tokens"] == [100 * step for step in range(1, 61)]
    assert found.keys() >= FIGURES
    assert {len(found[name]) for name in FIGURES} == {60}
    assert found["gradient_norm"][9] == 10.5
    assert found["learning_rate"][9] == pytest.approx(1e-3)
    assert found["valid_loss"] == [None] * 60
    assert [found["full_valid_loss"][index] for index in (28, 29, 59)] == [None, 1.0, 31.0]
    assert not any("reward" in name for name in found)
    assert found["cursor"].startswith("ftevent-")


def test_checkpoints_come_along_and_the_best_is_that_of_the_lowest_validation_loss(
    url: str, job_id: str, run: RunDirectory, supervisor: Supervisor
) -> None:
    for step, loss in ((70, 0.5), (80, 0.75)):
        folder = f"step-{step:06d}"
        (run.checkpoints / folder).mkdir()
        metrics = {"full_valid_loss": loss}
        run.append(CheckpointSaved(at=START + 100, step=step, epoch=3, folder=folder, metrics=metrics))
    supervisor.tick()
    found = get(url, job_id).json()["checkpoints"]
    assert [one["step"] for one in found] == [30, 60, 70, 80]
    assert [one["is_best"] for one in found] == [False, False, True, False]
    assert found[2]["metrics"] == {"full_valid_loss": 0.5}
    assert found[2]["model"].endswith(":ckpt-step-70")


def test_cursor_gives_only_what_is_new(url: str, job_id: str, run: RunDirectory, supervisor: Supervisor) -> None:
    cursor = get(url, job_id).json()["cursor"]
    nothing = get(url, job_id, after=cursor).json()
    assert (nothing["step"], nothing["cursor"], nothing["n_steps"]) == ([], cursor, 90)
    for step in (61, 62):
        run.append(step_of(step))
    supervisor.tick()
    tail = get(url, job_id, after=cursor).json()
    assert tail["step"] == [61, 62]
    assert get(url, job_id).json()["step"][-3:] == [60, 61, 62], "the columns in memory are extended"
    assert get(url, job_id, after=tail["cursor"]).json()["step"] == []


def test_range_series_and_points_limit_the_answer(url: str, job_id: str) -> None:
    found = get(url, job_id, from_step=10, to_step=12, series="gradient_norm,train_loss").json()
    assert found["step"] == [10, 11, 12]
    assert FIGURES & found.keys() == {"gradient_norm", "train_loss"}
    few = get(url, job_id, points=10).json()
    assert (few["n_rows"], few["reduced"]) == (60, True)
    assert len(few["step"]) <= 10
    assert {1, 30, 60} <= set(few["step"])


def test_csv_has_every_row_by_query_or_by_accept(url: str, job_id: str) -> None:
    by_query = get(url, job_id, format="csv", points=10)
    by_accept = get(url, job_id, headers={"accept": "text/csv"})
    assert by_query.headers["content-type"].startswith("text/csv")
    assert by_query.text == by_accept.text
    rows = list(csv.DictReader(io.StringIO(by_query.text)))
    assert [row["step"] for row in rows] == [str(step) for step in range(1, 61)]
    assert (rows[29]["full_valid_loss"], rows[28]["full_valid_loss"], rows[0]["tokens"]) == ("1.0", "", "100")
    assert float(rows[4]["train_loss"]) == math.exp(-5 / 30)


def test_answer_that_the_caller_has_is_304_until_there_is_something_new(
    url: str, job_id: str, run: RunDirectory, supervisor: Supervisor
) -> None:
    first = get(url, job_id)
    tag = first.headers["etag"]
    again = get(url, job_id, headers={"if-none-match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert get(url, job_id, headers={"if-none-match": tag}, points=20).status_code == 200, "another query"
    run.append(step_of(61))
    supervisor.tick()
    assert get(url, job_id, headers={"if-none-match": tag}).status_code == 200


def test_rewards_are_columns_where_preferences_are_learned(
    url: str, job_id: str, run: RunDirectory, supervisor: Supervisor
) -> None:
    run.append(step_of(61, train_rewards=Rewards(accuracy=0.75, margin=0.5, chosen=0.25, rejected=-0.25)))
    supervisor.tick()
    found = get(url, job_id).json()
    assert found["train_reward_margin"] == [None] * 60 + [0.5]
    assert "valid_reward_margin" not in found


def test_job_without_steps_has_empty_columns(url: str, openai_client: OpenAI, file: str) -> None:
    job = openai_client.fine_tuning.jobs.create(training_file=file, model=BASE)
    found = get(url, job.id).json()
    assert (found["step"], found["train_loss"], found["cursor"], found["n_steps"]) == ([], [], None, None)
    assert found["status"] == JobStatus.VALIDATING_FILES
    assert get(url, job.id, format="csv").text.count("\n") == 1


@pytest.mark.parametrize(
    ("query", "code", "param"),
    [
        ({"series": "train_loss,no_such"}, "unknown_series", "series"),
        ({"after": "ftevent-" + "0" * 32}, "invalid_cursor", "after"),
        ({"points": 9}, None, "points"),
        ({"from_step": "x"}, None, "from_step"),
        ({"format": "xml"}, None, "format"),
    ],
)
def test_query_that_cannot_be_answered_is_refused_by_name(
    url: str, job_id: str, query: dict[str, Any], code: str | None, param: str
) -> None:
    refused = get(url, job_id, **query)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["param"] == param
    assert code in {None, error["code"]}


def test_deleted_job_has_no_metrics(
    url: str, openai_client: OpenAI, job_id: str, run: RunDirectory, supervisor: Supervisor, executor: ScriptedExecutor
) -> None:
    run.append(Succeeded(at=START + 200, trained_tokens=9000, seconds=5.0, peak_memory_bytes=1))
    run.results.write_text("step,train_loss\n")
    executor.alive.clear()
    for _ in range(3):
        supervisor.tick()
    assert get(url, job_id).json()["status"] == JobStatus.SUCCEEDED
    deleted = httpx2.delete(f"{url}/v1/fine_tuning/jobs/{job_id}", headers={"api-key": KEY})
    assert deleted.status_code == 204
    assert get(url, job_id).status_code == 404
