"""GET /luthier/jobs/{job_id}/details: what was asked for, what it became and why, how far it is, what can be done."""

from dataclasses import replace
from typing import Any

import httpx2
from openai import OpenAI

from fakes import BASE, KEY, ScriptedExecutor
from luthier.core.models import Principal
from luthier.core.roles import Role
from luthier.run_directory.run_directory import RunDirectory
from luthier.run_directory.run_events import Metrics, Started
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.job_views import job_actions
from luthier.service.jobs import jobs

START = 4_000_000_000.0


def half_done(run: RunDirectory) -> None:
    """Twenty of forty steps, two seconds and a hundred tokens each."""
    run.append(Started(at=START, n_steps=40, n_examples=10, n_tokens=500, supervised_tokens=40))
    for step in range(1, 21):
        run.append(
            Metrics(
                at=START + 2 * step,
                step=step,
                n_steps=40,
                train_loss=1.0,
                train_mean_token_accuracy=0.5,
                trained_tokens=100 * step,
            )
        )


def get(url: str, job_id: str, key: str = KEY) -> dict[str, Any]:
    answer = httpx2.get(f"{url}/luthier/jobs/{job_id}/details", headers={"api-key": key}, timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def settings(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in found["settings"]}


def test_request_stays_as_it_was_sent_and_each_setting_says_what_it_became(
    url: str, openai_client: OpenAI, file: str, supervisor: Supervisor, executor: ScriptedExecutor
) -> None:
    executor.alive = {"fake:1"}
    executor.trainer = half_done
    job = openai_client.fine_tuning.jobs.create(
        training_file=file,
        model=BASE,
        hyperparameters={"n_epochs": 4, "batch_size": "auto"},
        suffix="clippy",
        metadata={"who": "me"},
        extra_body={"luthier": {"lora_dropout": 0.1}},
    )
    before = get(url, job.id)
    assert before["status"] == "validating_files"
    assert settings(before)["batch_size"]["value"] is None
    assert (before["progress"]["step"], before["progress"]["n_steps"]) == (0, None)
    for _ in range(3):
        supervisor.tick()
    found = get(url, job.id)
    asked = found["requested"]
    assert asked["hyperparameters"] == {
        "n_epochs": 4,
        "batch_size": "auto",
        "learning_rate_multiplier": "auto",
        "beta": "auto",
    }
    assert (asked["model"], asked["training_file"], asked["seed"], asked["suffix"]) == (BASE, file, None, "clippy")
    assert (asked["metadata"], asked["luthier"]) == ({"who": "me"}, {"lora_dropout": 0.1})
    by_name = settings(found)
    assert by_name["n_epochs"] == {"name": "n_epochs", "requested": 4, "value": 4, "reason": "As requested."}
    assert (by_name["batch_size"]["requested"], by_name["batch_size"]["value"]) == ("auto", 2)
    assert by_name["batch_size"]["reason"].startswith("10 examples: 0.6 of the square root of their number is 1.9")
    assert by_name["learning_rate"]["value"] > 0
    assert (by_name["lora_dropout"]["value"], by_name["lora_dropout"]["reason"]) == (0.1, "As requested.")
    assert by_name["lora_rank"]["value"] > 0
    assert by_name["seed"]["reason"].startswith("It was not sent")
    assert "beta" not in by_name


def test_progress_of_a_running_job_has_its_speed_and_time_left(
    url: str, openai_client: OpenAI, file: str, supervisor: Supervisor, executor: ScriptedExecutor
) -> None:
    executor.alive, executor.trainer = {"fake:1"}, half_done
    job = openai_client.fine_tuning.jobs.create(training_file=file, model=BASE, hyperparameters={"n_epochs": 4})
    for _ in range(4):
        supervisor.tick()
    progress = get(url, job.id)["progress"]
    assert (progress["step"], progress["n_steps"], progress["epoch"], progress["n_epochs"]) == (20, 40, 2, 4)
    assert (progress["trained_tokens"], progress["total_tokens"]) == (2000, 2000)
    assert (progress["tokens_per_second"], progress["seconds_per_step"]) == (50.0, 2.0)
    assert progress["seconds_left"] > 0
    assert progress["estimated_finish"] == START + 80


def test_actions_follow_the_state_of_the_job(
    url: str, openai_client: OpenAI, file: str, supervisor: Supervisor
) -> None:
    job = openai_client.fine_tuning.jobs.create(training_file=file, model=BASE)
    waiting = get(url, job.id)["actions"]
    assert {name: one["allowed"] for name, one in waiting.items()} == {
        "pause": False,
        "resume": False,
        "cancel": True,
        "delete": False,
        "deploy": False,
        "continue": False,
    }
    assert waiting["pause"]["reason"] == "The job is validating files; only a running job can be paused."
    for _ in range(5):
        supervisor.tick()
    ended = get(url, job.id)
    assert ended["status"] == "succeeded"
    allowed = {name for name, one in ended["actions"].items() if one["allowed"]}
    assert allowed == {"delete", "deploy", "continue"}
    assert ended["actions"]["deploy"]["model"] == ended["model"]["fine_tuned_model"]
    assert (ended["seconds"], ended["peak_memory_bytes"], ended["cost"]) == (5.0, 1, None)
    assert ended["progress"]["tokens_per_second"] == 200 / 5.0


def test_action_that_no_role_of_the_caller_allows_names_the_roles_that_do(
    context: Context, caller: Principal, openai_client: OpenAI, file: str
) -> None:
    made = openai_client.fine_tuning.jobs.create(training_file=file, model=BASE)
    job = jobs.get(context, caller.resource.id, made.id)
    with context.database.reading() as tx:
        found = job_actions.possibilities(tx, replace(caller, roles=frozenset({Role.OPENAI_USER})), job, [])
    assert not found["cancel"].allowed
    assert Role.OPENAI_CONTRIBUTOR in str(found["cancel"].reason)


def test_job_of_an_older_version_has_no_request_and_still_an_answer(
    url: str, context: Context, openai_client: OpenAI, file: str
) -> None:
    job = openai_client.fine_tuning.jobs.create(training_file=file, model=BASE, seed=105)
    with context.database.writing() as tx:
        tx.exec_driver_sql("UPDATE events SET data = NULL")
    found = get(url, job.id)
    assert (found["requested"]["hyperparameters"], found["requested"]["seed"]) == (None, None)
    assert settings(found)["seed"]["value"] == 105
    assert "older version" in settings(found)["n_epochs"]["reason"]


def test_details_of_no_job_are_a_404(url: str) -> None:
    answer = httpx2.get(f"{url}/luthier/jobs/ftjob-{'0' * 32}/details", headers={"api-key": KEY})
    assert answer.status_code == 404
