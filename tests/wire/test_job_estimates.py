"""POST /luthier/estimate: a job's settings, steps and time before it is created."""

from typing import Any

import httpx2
import pytest
from openai import OpenAI

import tiny
from fakes import BASE, KEY
from luthier.service.context import Context


def ask(url: str, **body: Any) -> httpx2.Response:
    return httpx2.post(f"{url}/luthier/estimate", json=body, headers={"api-key": KEY}, timeout=60)


def test_estimate_is_that_of_the_job_and_creates_none(
    url: str, context: Context, openai_client: OpenAI, file: str
) -> None:
    tiny.tokenizer_folder(context.base_folder(BASE) / "hf")
    answer = ask(url, model=BASE, training_file=file, hyperparameters={"n_epochs": 2})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["object"], found["model"], found["n_examples"]) == ("luthier.estimate", BASE, 10)
    assert (found["run"]["n_steps"], found["run"]["batch_size"]) == (10, 2)
    assert found["words"].startswith("A job: 2 epochs in batches of 2, 10 steps")
    settings = {one["name"]: one for one in found["settings"]}
    assert (settings["n_epochs"]["requested"], settings["batch_size"]["requested"]) == (2, "auto")
    assert settings["batch_size"]["reason"].startswith("10 examples")
    assert settings["seed"]["value"] is None
    assert openai_client.fine_tuning.jobs.list().data == []


@pytest.mark.parametrize(
    ("change", "status", "param"),
    [
        ({"model": "no-such-model"}, 400, "model"),
        ({"training_file": "file-" + "0" * 32}, 404, None),
        ({"hyperparameters": {"n_epochs": 999}}, 400, "hyperparameters.n_epochs"),
    ],
)
def test_estimate_of_what_cannot_be_created_is_refused(
    url: str, file: str, change: dict[str, Any], status: int, param: str | None
) -> None:
    refused = ask(url, **{"model": BASE, "training_file": file} | change)
    assert (refused.status_code, refused.json()["error"]["param"]) == (status, param)
