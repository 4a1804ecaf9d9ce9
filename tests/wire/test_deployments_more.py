"""Deployments: patches, tags, skus and pages of the control plane; and the data plane of 2022-12-01."""

import httpx2
import openai
import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient
from openai import AzureOpenAI

from control_plane import KeyCredential
from fakes import BASE, KEY
from luthier.api.arm import arm_names
from luthier.core.quotas import Quota
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.models import deployments
from luthier.service.models.deployments import DeploymentRequest
from luthier.service.tenants import quotas
from luthier.service.tenants.keys import DEFAULT_RESOURCE

PATH = arm_names.path_of(DEFAULT_RESOURCE)
WHERE = (DEFAULT_RESOURCE.resource_group, DEFAULT_RESOURCE.account)
PLAIN = {"enforce_https": False}


@pytest.fixture
def management(url: str) -> CognitiveServicesManagementClient:
    return CognitiveServicesManagementClient(
        KeyCredential(), DEFAULT_RESOURCE.subscription, base_url=url, polling_interval=0.05
    )


def call(method: str, address: str, **more: object) -> httpx2.Response:
    head = {"Authorization": f"Bearer {KEY}"}
    return httpx2.request(method, address, params={"api-version": "2024-10-01"}, headers=head, **more)


def body(model: str = BASE, **more: object) -> dict[str, object]:
    return {"sku": {"name": "Standard", "capacity": 1}, "properties": {"model": {"name": model}}, **more}


def test_azure_mgmt_patches_sku_and_tags_and_the_model_goes_on_answering(
    url: str, management: CognitiveServicesManagementClient, supervisor: Supervisor, azure: AzureOpenAI
) -> None:
    poller = management.deployments.begin_create_or_update(*WHERE, "clippy", body(tags={"team": "a"}), **PLAIN)
    supervisor.tick_deployments()
    made = poller.result(timeout=20)
    assert made.tags == {"team": "a"}
    patch = {"sku": {"name": "globalstandard", "capacity": 7}, "tags": {"team": "b"}}
    changed = management.deployments.begin_update(*WHERE, "clippy", patch, **PLAIN).result(timeout=20)
    assert (changed.sku.name, changed.sku.capacity, changed.tags) == ("GlobalStandard", 7, {"team": "b"})
    assert changed.properties.provisioning_state == "Succeeded"
    assert changed.etag != made.etag
    kept = management.deployments.begin_update(*WHERE, "clippy", {"tags": {}}, **PLAIN).result(timeout=20)
    assert (kept.sku.capacity, kept.tags) == (7, {})
    assert management.deployments.get(*WHERE, "clippy", **PLAIN).etag == kept.etag
    answer = azure.chat.completions.create(model="clippy", messages=[{"role": "user", "content": "hi"}])
    assert answer.model == BASE
    again = management.deployments.begin_create_or_update(*WHERE, "clippy", body("gpt-4o-mini"), **PLAIN)
    assert again.result(timeout=20).tags == {}, "a put without tags keeps those that are there"
    with pytest.raises(HttpResponseError) as caught:
        management.deployments.begin_update(*WHERE, "nobody", patch, **PLAIN)
    assert (caught.value.status_code, caught.value.error.code) == (404, "DeploymentNotFound")


def test_azure_mgmt_hears_why_a_deployment_failed(
    management: CognitiveServicesManagementClient, supervisor: Supervisor, context: Context
) -> None:
    poller = management.deployments.begin_create_or_update(*WHERE, "clippy", body(), **PLAIN)
    (context.base_folder(BASE) / "prepared.json").unlink()
    supervisor.tick_deployments()
    with pytest.raises(HttpResponseError, match="luthier models pull"):
        poller.result(timeout=20)


def test_skus_of_the_account_and_of_a_deployment(url: str, management: CognitiveServicesManagementClient) -> None:
    management.deployments.begin_create_or_update(*WHERE, "clippy", body(), polling=False, **PLAIN)
    found = {item.sku.name: item for item in management.deployments.list_skus(*WHERE, "clippy", **PLAIN)}
    assert {"Standard", "GlobalStandard", "Developer"} <= set(found)
    capacity = found["Standard"].capacity
    assert (capacity.minimum, capacity.step, capacity.default) == (1, 1, 1)
    assert [item.sku.name for item in management.accounts.list_skus(*WHERE, **PLAIN).value] == ["S0"]
    with pytest.raises(HttpResponseError):
        list(management.deployments.list_skus(*WHERE, "nobody", **PLAIN))


def test_list_goes_on_by_next_link(url: str, context: Context, management: CognitiveServicesManagementClient) -> None:
    quotas.set_limits(context, DEFAULT_RESOURCE.id, {Quota.DEPLOYMENTS: 1000})
    names = [f"d{number:03d}" for number in range(101)]
    quotas.set_limits(context, DEFAULT_RESOURCE.id, {Quota.DEPLOYMENTS: len(names)})
    for name in names:
        deployments.put(context, DEFAULT_RESOURCE.id, DeploymentRequest(name, BASE, None, "Standard", 1))
    first = call("GET", f"{url}{PATH}").json()
    assert (len(first["value"]), "nextLink" in first) == (100, True)
    rest = httpx2.get(first["nextLink"], headers={"api-key": KEY}).json()
    assert ([item["name"] for item in rest["value"]], "nextLink" in rest) == (names[100:], False)
    assert [found.name for found in management.deployments.list(*WHERE, **PLAIN)] == names


FAULTS = [
    ("PATCH", {"sku": {"name": "golden"}}, "InvalidSku"),
    ("PATCH", {"sku": {"capacity": 0}}, "InvalidSku"),
    ("PATCH", {"sku": {"capacity": 10**30}}, "InvalidSku"),
    ("PATCH", {"sku": {"capacity": "many"}}, "InvalidRequestContent"),
    ("PATCH", {"tags": {"k": "v" * 257}}, "InvalidTags"),
    ("PUT", body(tags={str(number): "" for number in range(51)}), "InvalidTags"),
    ("PUT", {"sku": {"name": "standard"}}, "InvalidRequestContent"),
    ("PUT", body("gpt-9"), "DeploymentModelNotSupported"),
]


def test_bad_change_is_a_400_in_arms_words(url: str) -> None:
    assert call("PUT", f"{url}{PATH}/clippy", json=body()).status_code == 201
    for method, sent, code in FAULTS:
        answer = call(method, f"{url}{PATH}/clippy", json=sent)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
        assert answer.json()["error"]["message"]
    assert call("GET", f"{url}{PATH}/clippy").json()["sku"] == {"name": "Standard", "capacity": 1}


def data_plane(method: str, url: str, path: str = "", **more: object) -> httpx2.Response:
    address = f"{url}/openai/deployments{path}"
    return httpx2.request(method, address, params={"api-version": "2022-12-01"}, headers={"api-key": KEY}, **more)


def patched(url: str, name: str, change: str) -> httpx2.Response:
    head = {"api-key": KEY, "content-type": "application/merge-patch+json"}
    address = f"{url}/openai/deployments/{name}?api-version=2022-12-01"
    return httpx2.patch(address, headers=head, content=change)


def test_deployments_of_2022_from_creation_to_deletion(url: str, azure: AzureOpenAI, supervisor: Supervisor) -> None:
    made = data_plane("POST", url, json={"model": BASE, "scale_settings": {"scale_type": "standard"}})
    assert made.status_code == 201
    shape = made.json()
    name = shape["id"]
    assert name.startswith("deployment-")
    assert len(name) == len("deployment-") + 32
    assert made.headers["location"].split("?")[0] == f"{url}/openai/deployments/{name}"
    assert {key: shape[key] for key in ("object", "status", "model", "owner", "scale_settings")} == {
        "object": "deployment",
        "status": "running",
        "model": BASE,
        "owner": "organization-owner",
        "scale_settings": {"scale_type": "standard"},
    }
    early = patched(url, name, '{"scale_settings": {"scale_type": "manual", "capacity": 3}}')
    assert (early.status_code, early.headers["x-should-retry"]) == (409, "false")
    supervisor.tick_deployments()
    assert data_plane("GET", url, f"/{name}").json()["status"] == "succeeded"
    answer = azure.chat.completions.create(model=name, messages=[{"role": "user", "content": "hi"}])
    assert answer.model == BASE
    changed = patched(url, name, '{"scale_settings": {"scale_type": "manual", "capacity": 3}}')
    assert (changed.status_code, changed.json()["status"]) == (200, "succeeded")
    assert changed.json()["scale_settings"] == {"scale_type": "manual", "capacity": 3}
    assert patched(url, name, '{"model": "gpt-4o-mini"}').json()["scale_settings"]["capacity"] == 3
    listed = data_plane("GET", url).json()
    assert (listed["object"], [item["id"] for item in listed["data"]]) == ("list", [name])
    assert call("GET", f"{url}{PATH}/{name}").json()["sku"] == {"name": "ProvisionedManaged", "capacity": 3}
    gone = data_plane("DELETE", url, f"/{name}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert data_plane("DELETE", url, f"/{name}").status_code == 404
    assert data_plane("GET", url, f"/{name}").json()["error"]["code"] == "DeploymentNotFound"
    assert patched(url, name, "{}").status_code == 409, "so says the specification of a missing one"
    with pytest.raises(openai.NotFoundError):
        azure.chat.completions.create(model=name, messages=[{"role": "user", "content": "hi"}])


FAULTS_OF_2022 = [
    ({"model": "gpt-9", "scale_settings": {"scale_type": "standard"}}, "no model 'gpt-9'"),
    ({"model": BASE}, "scale_settings"),
    ({"model": BASE, "scale_settings": {"scale_type": "automatic"}}, "scale_settings.scale_type"),
    ({"model": BASE, "scale_settings": {"scale_type": "manual"}}, "scale_settings.capacity"),
    ({"model": BASE, "scale_settings": {"scale_type": "manual", "capacity": 0}}, "from 1 to"),
    ({"model": BASE, "name": "mine", "scale_settings": {"scale_type": "standard"}}, "name"),
]


def test_bad_deployment_of_2022_is_a_400_that_names_the_field(url: str) -> None:
    for sent, words in FAULTS_OF_2022:
        answer = data_plane("POST", url, json=sent)
        assert answer.status_code == 400
        assert words in answer.json()["error"]["message"]
    assert data_plane("GET", url).json()["data"] == []
