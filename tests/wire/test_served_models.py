"""What serves each deployment, and a model that is proven again on demand."""

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from openai import BadRequestError, OpenAI

import rows
from control_plane import call, put
from fakes import BASE, EchoEngine, agreeing_parity, failing_parity
from luthier.core.engine_ports import ParityCheck
from luthier.service.background.supervisor import Supervisor
from luthier.service.models.serving import Serving

NO_TRAFFIC = {"calls": 0, "errors": 0, "refused": 0, "input_tokens": 0, "output_tokens": 0} | dict.fromkeys(
    ("first_token_seconds", "last_call_at")
)


def tuned_model(client: OpenAI, supervisor: Supervisor) -> str:
    file = client.files.create(file=("rows.jsonl", rows.good()), purpose="fine-tune").id
    job = client.fine_tuning.jobs.create(model=BASE, training_file=file)
    for _ in range(4):
        supervisor.tick()
    model = client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model
    assert model is not None
    return model


def engines(url: str) -> list[dict[str, Any]]:
    answer = call("GET", f"{url}/luthier/engines").json()
    assert answer["object"] == "list"
    found: list[dict[str, Any]] = answer["data"]
    return found


def prove(url: str, model: str, **more: object) -> httpx2.Response:
    return call("POST", f"{url}/luthier/parity", json={"model": model, **more})


@pytest.fixture
def tuned(url: str, openai_client: OpenAI, supervisor: Supervisor) -> str:
    """A tuned model that is deployed as "mine"."""
    model = tuned_model(openai_client, supervisor)
    assert put(url, "mine", model).status_code == 201
    supervisor.tick_deployments()
    return model


def test_engines_lists_each_deployment_that_can_answer(
    url: str, tuned: str, engine: EchoEngine, supervisor: Supervisor
) -> None:
    assert put(url, "waiting", BASE).status_code == 201
    listed: dict[str, Any] = {"deployment": "mine", "model": tuned, "engine": "native", "state": "ready"}
    listed |= {"reason": "It is loaded.", "traffic": NO_TRAFFIC}
    assert engines(url) == [listed]
    engine.models.clear()
    assert engines(url) == [listed | {"state": "resting", "reason": "It is not loaded. The next call loads it."}]


def test_engines_counts_the_calls_of_a_deployment_whole_streamed_failed_and_refused(
    url: str, tuned: str, openai_client: OpenAI
) -> None:
    turns: Any = [{"role": "user", "content": "hi"}]
    openai_client.chat.completions.create(model="mine", messages=turns)
    for _ in openai_client.chat.completions.create(model="mine", messages=turns, stream=True):
        pass
    openai_client.completions.create(model="mine", prompt="hi")
    with pytest.raises(BadRequestError):
        openai_client.chat.completions.create(model="mine", messages=[{"role": "user", "content": "too long"}])
    openai_client.chat.completions.create(model=tuned, messages=turns)  # of the model, not of the deployment
    traffic = engines(url)[0]["traffic"]
    assert (traffic["calls"], traffic["errors"], traffic["refused"]) == (4, 1, 0)
    assert (traffic["input_tokens"], traffic["output_tokens"]) == (9, 6)
    assert 0 < traffic["first_token_seconds"] < 10
    assert traffic["last_call_at"] > 0


def test_parity_of_a_deployment_and_of_its_model_are_one(url: str, tuned: str, engine: EchoEngine) -> None:
    engine.models.clear()
    proofs = [prove(url, name).json() for name in ("mine", tuned)]
    assert proofs[0] == proofs[1]
    assert proofs[0]["object"] == "luthier.parity"
    assert (proofs[0]["model"], proofs[0]["engine"], proofs[0]["agrees"]) == (tuned, "native", True)
    report = agreeing_parity(None, None)
    assert proofs[0]["figures"] == {
        "positions": report.positions,
        "max_difference": report.max_difference,
        "mean_difference": report.mean_difference,
        "tolerance": report.tolerance,
        "agrees": True,
    }
    assert tuned in engine.models, "it was loaded for the proof"


def test_models_beside_are_proven_too(url: str, tuned: str, supervisor: Supervisor) -> None:
    assert prove(url, tuned).json()["beside"] == []
    assert put(url, "base", BASE).status_code == 201
    supervisor.tick_deployments()
    beside = prove(url, tuned).json()["beside"]
    assert [figures["agrees"] for figures in beside] == [True]


def test_proof_that_fails_is_an_answer_with_its_reason(url: str, tuned: str, serving_by: Callable[..., None]) -> None:
    serving_by(failing_parity)
    answer = prove(url, tuned)
    assert answer.status_code == 200
    assert answer.json()["agrees"] is False
    assert answer.json()["reason"]


@pytest.fixture
def serving_by(serving: Serving, app: Any) -> Callable[..., None]:
    """Replaces the parity check of the running service."""

    def use(check: ParityCheck) -> None:
        serving._proofs._check_parity = check

    return use


def test_unknown_model_is_a_404_and_an_unknown_field_a_400(url: str, tuned: str) -> None:
    assert prove(url, "nobody").status_code == 404
    refused = prove(url, tuned, deep=True)
    assert (refused.status_code, "deep" in refused.text) == (400, True)
