"""Deployments through the control plane: plain REST, and azure-mgmt-cognitiveservices as an unmodified client."""

import httpx2
import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient
from openai import AzureOpenAI

import rows
from control_plane import PATH, VERSION, KeyCredential, call, put
from fakes import BASE, KEY, EchoEngine, failing_parity
from luthier.service.background.supervisor import Supervisor
from luthier.service.models.serving import Serving
from luthier.service.tenants.keys import DEFAULT_RESOURCE


def test_put_is_201_creating_and_succeeds_with_the_proofs_figures(url: str, supervisor: Supervisor) -> None:
    made = put(url, "clippy", BASE)
    assert made.status_code == 201
    assert made.json()["properties"]["provisioningState"] == "Creating"
    supervisor.tick_deployments()
    found = call("GET", f"{url}{PATH}/clippy").json()
    assert found["properties"]["provisioningState"] == "Succeeded"
    assert found["properties"]["model"] == {"format": "OpenAI", "name": BASE, "version": "1"}
    assert found["properties"]["parity"] == {
        "positions": 8,
        "max_difference": 0.001,
        "mean_difference": 0.0001,
        "tolerance": 0.05,
    }
    assert found["sku"] == {"name": "Standard", "capacity": 1}
    assert found["id"] == f"{PATH}/clippy"
    assert [item["name"] for item in call("GET", f"{url}{PATH}").json()["value"]] == ["clippy"]
    assert put(url, "clippy", BASE).status_code == 200
    assert call("DELETE", f"{url}{PATH}/clippy").status_code == 200
    assert call("DELETE", f"{url}{PATH}/clippy").status_code == 204
    assert call("GET", f"{url}{PATH}/clippy").status_code == 404


def test_model_is_unloaded_with_its_last_deployment(url: str, supervisor: Supervisor, engine: EchoEngine) -> None:
    put(url, "one", BASE)
    put(url, "two", BASE)
    supervisor.tick_deployments()
    call("DELETE", f"{url}{PATH}/one")
    assert set(engine.models) == {BASE}
    call("DELETE", f"{url}{PATH}/two")
    assert set(engine.models) == set()


def test_deployment_whose_proof_fails_is_failed_and_does_not_answer(
    url: str, azure: AzureOpenAI, supervisor: Supervisor, engine: EchoEngine
) -> None:
    supervisor.serving = Serving(supervisor.context, engine, failing_parity)
    put(url, "clippy", BASE)
    supervisor.tick_deployments()
    properties = call("GET", f"{url}{PATH}/clippy").json()["properties"]
    assert properties["provisioningState"] == "Failed"
    assert "differs by 2.5 nats" in properties["error"]["message"]
    answer = httpx2.post(
        f"{url}/openai/deployments/clippy/chat/completions?api-version=2024-10-21",
        headers={"api-key": KEY},
        json={"messages": [{"role": "user", "content": "hi"}]},
    )
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("name", "model", "sku", "code"),
    [
        ("clippy", "gpt-9", "standard", "DeploymentModelNotSupported"),
        ("-", BASE, "standard", "InvalidDeploymentName"),
        ("clippy", BASE, "golden", "InvalidSku"),
    ],
)
def test_bad_put_is_a_400_in_arms_words(url: str, name: str, model: str, sku: str, code: str) -> None:
    answer = put(url, name, model, sku)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code


def test_path_of_another_account_is_not_found(url: str) -> None:
    address = f"{url}{PATH}/clippy".replace("accounts/luthier", "accounts/other")
    answer = call("GET", address)
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "ResourceNotFound"
    assert call("GET", f"{url}{PATH}".replace("resourceGroups/luthier", "resourceGroups/LUTHIER")).status_code == 200


def test_azure_mgmt_creates_waits_lists_and_deletes(url: str, supervisor: Supervisor) -> None:
    plain_http = {"enforce_https": False}
    with CognitiveServicesManagementClient(
        KeyCredential(), DEFAULT_RESOURCE.subscription, base_url=url, polling_interval=0.05
    ) as client:
        where = (DEFAULT_RESOURCE.resource_group, DEFAULT_RESOURCE.account)
        body = {"sku": {"name": "Standard", "capacity": 1}, "properties": {"model": {"format": "OpenAI", "name": BASE}}}
        poller = client.deployments.begin_create_or_update(*where, "clippy", body, **plain_http)
        supervisor.tick_deployments()
        assert poller.result(timeout=20).properties.provisioning_state == "Succeeded"
        assert [found.name for found in client.deployments.list(*where, **plain_http)] == ["clippy"]
        client.deployments.begin_delete(*where, "clippy", **plain_http).wait(timeout=20)
        with pytest.raises(HttpResponseError):
            client.deployments.get(*where, "clippy", **plain_http)


def test_tuned_model_in_use_is_not_deleted_until_its_deployment_is(
    url: str, azure: AzureOpenAI, supervisor: Supervisor
) -> None:
    file = azure.files.create(file=("rows.jsonl", rows.good()), purpose="fine-tune")
    job = azure.fine_tuning.jobs.create(training_file=file.id, model=BASE)
    for _ in range(5):
        supervisor.tick()
    tuned = azure.fine_tuning.jobs.retrieve(job.id).fine_tuned_model
    put(url, "clippy", f"{tuned}:ckpt-step-2")
    supervisor.tick_deployments()
    refused = httpx2.delete(f"{url}/openai/models/{tuned}", params=VERSION, headers={"api-key": KEY})
    assert refused.status_code == 409
    assert refused.headers["x-should-retry"] == "false"
    assert "Delete the deployment first" in refused.json()["error"]["message"]
    call("DELETE", f"{url}{PATH}/clippy")
    assert azure.models.delete(tuned).deleted
    assert not list((supervisor.context.served_folder.parent / "blobs" / "checkpoints").rglob("*.safetensors"))
    assert list(supervisor.context.served_folder.glob("[!.]*")) == []


CHAT = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("dialect", ["/openai/v1/chat/completions", "/openai/deployments/{}/chat/completions"])
def test_call_of_a_model_that_is_not_deployed_is_told_how_to_deploy_it(url: str, dialect: str) -> None:
    answer = call("POST", url + dialect.format(BASE), json={"model": BASE} | CHAT)
    assert answer.status_code == 404
    message = answer.json()["error"]["message"]
    assert f"luthier deployments create NAME --model {BASE}" in message
    assert f'"name": "{BASE}"' in message
    nobody = call("POST", url + dialect.format("nobody"), json={"model": "nobody"} | CHAT).json()["error"]["message"]
    assert "luthier deployments create" not in nobody


def test_call_of_a_deployment_that_is_not_ready_says_so(url: str, supervisor: Supervisor, engine: EchoEngine) -> None:
    put(url, "clippy", BASE)
    for path in ("/v1/chat/completions", "/openai/v1/chat/completions"):
        answer = call("POST", url + path, json={"model": "clippy"} | CHAT)
        assert (answer.status_code, "is still being created" in answer.text) == (404, True)
    supervisor.serving = Serving(supervisor.context, engine, failing_parity)
    supervisor.tick_deployments()
    answer = call("POST", f"{url}/openai/v1/chat/completions", json={"model": "clippy"} | CHAT)
    assert (answer.status_code, "has failed and cannot answer" in answer.text) == (404, True)
    assert "differs by 2.5 nats" in answer.text
