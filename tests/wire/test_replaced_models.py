"""A newer model under the same name: no call is lost, whatever becomes of it."""

import json

import openai
import pytest
from openai import AzureOpenAI, OpenAI

import rows
from control_plane import PATH, call, put
from fakes import BASE, EchoEngine, failing_parity
from luthier.service.background.supervisor import Supervisor
from luthier.service.models.serving import Serving


@pytest.fixture
def tuned(url: str, openai_client: OpenAI, supervisor: Supervisor) -> str:
    """A tuned model; the base is deployed as "assistant"."""
    put(url, "assistant", BASE)
    file = openai_client.files.create(file=("rows.jsonl", rows.good()), purpose="fine-tune").id
    job = openai_client.fine_tuning.jobs.create(model=BASE, training_file=file)
    for _ in range(4):
        supervisor.tick()
    supervisor.tick_deployments()
    model = openai_client.fine_tuning.jobs.retrieve(job.id).fine_tuned_model
    assert model is not None
    return model


def answering(azure: AzureOpenAI) -> str:
    """The model that the engine was asked for by a call of the deployment."""
    answer = azure.chat.completions.create(model="assistant", messages=[{"role": "user", "content": "hi"}])
    return str(json.loads(answer.choices[0].message.content or "")["adapter"])


def shown(url: str) -> tuple[str, str]:
    properties = call("GET", f"{url}{PATH}/assistant").json()["properties"]
    return properties["provisioningState"], properties["servedModel"]


def test_model_before_answers_until_the_newer_one_is_proven(
    url: str, azure: AzureOpenAI, supervisor: Supervisor, engine: EchoEngine, tuned: str
) -> None:
    assert put(url, "assistant", tuned).status_code == 200
    assert (shown(url), answering(azure)) == (("Creating", BASE), BASE)
    supervisor.tick_deployments()
    assert (shown(url), answering(azure)) == (("Succeeded", tuned), tuned)
    assert BASE in engine.released, "nobody names it any more"


def test_model_before_goes_on_answering_if_the_newer_one_fails(
    url: str, azure: AzureOpenAI, supervisor: Supervisor, engine: EchoEngine, tuned: str
) -> None:
    proven = supervisor.serving
    supervisor.serving = Serving(supervisor.context, engine, failing_parity)
    put(url, "assistant", tuned)
    supervisor.tick_deployments()
    assert (shown(url), answering(azure)) == (("Failed", BASE), BASE)
    assert "differs by 2.5 nats" in str(call("GET", f"{url}{PATH}/assistant").json()["properties"]["error"])
    supervisor.serving = proven
    put(url, "assistant", tuned)
    assert answering(azure) == BASE, "a second attempt loses nothing either"
    supervisor.tick_deployments()
    assert (shown(url), answering(azure)) == (("Succeeded", tuned), tuned)


def test_two_newer_models_in_a_row_lose_no_call(
    url: str, azure: AzureOpenAI, supervisor: Supervisor, tuned: str
) -> None:
    put(url, "assistant", tuned)
    put(url, "assistant", BASE)
    assert (shown(url), answering(azure)) == (("Creating", BASE), BASE)
    supervisor.tick_deployments()
    assert (shown(url), answering(azure)) == (("Succeeded", BASE), BASE)


def test_model_that_answers_meanwhile_cannot_be_deleted(
    url: str, openai_client: OpenAI, azure: AzureOpenAI, supervisor: Supervisor, tuned: str
) -> None:
    put(url, "assistant", tuned)
    supervisor.tick_deployments()
    put(url, "assistant", BASE)
    with pytest.raises(openai.ConflictError):
        openai_client.models.delete(tuned)
    assert answering(azure) == tuned
    supervisor.tick_deployments()
    assert openai_client.models.delete(tuned).deleted


def test_deleted_deployment_unloads_both_models(
    url: str, supervisor: Supervisor, engine: EchoEngine, tuned: str
) -> None:
    put(url, "assistant", tuned)
    call("DELETE", f"{url}{PATH}/assistant")
    assert {BASE, tuned} <= set(engine.released)
