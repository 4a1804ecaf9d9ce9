"""What the control plane takes of a deployment it shows again, or refuses by name; and when to look again."""

import json
import re
import time

import httpx2
import pytest
from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient

from control_plane import KeyCredential
from fakes import BASE, KEY
from luthier.api.arm import arm_names
from luthier.service.background.supervisor import Supervisor
from luthier.service.tenants.keys import DEFAULT_RESOURCE

PATH = arm_names.path_of(DEFAULT_RESOURCE)
WHERE = (DEFAULT_RESOURCE.resource_group, DEFAULT_RESOURCE.account)
ALIAS = "gpt-4o-mini"
WRITTEN = {
    "tags": {"team": "a"},
    "sku": {"name": "GlobalStandard", "capacity": 120, "tier": "Standard", "size": "S", "family": "F"},
    "properties": {
        "model": {"format": "Meta", "name": ALIAS, "version": "2024-07-18", "publisher": "OpenAI"},
        "scaleSettings": {"scaleType": "Standard", "capacity": 120},
        "raiPolicyName": "Microsoft.DefaultV2",
        "versionUpgradeOption": "OnceNewDefaultVersionAvailable",
    },
}


def call(method: str, address: str, **more: object) -> httpx2.Response:
    head = {"Authorization": f"Bearer {KEY}", "content-type": "application/json"}
    return httpx2.request(method, address, params={"api-version": "2024-10-01"}, headers=head, **more)


def within(wanted: object, found: object) -> bool:
    """Whether everything that a tool wrote is in what it reads: how Terraform and Bicep find that nothing is to do."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(name in found and within(value, found[name]) for name, value in wanted.items())
    return wanted == found


def test_every_writable_property_is_read_back_as_it_was_written(url: str, supervisor: Supervisor) -> None:
    address = f"{url}{PATH}/clippy"
    assert within(WRITTEN, call("PUT", address, json=WRITTEN).json())
    supervisor.tick_deployments()
    read = call("GET", address).json()
    assert within(WRITTEN, read)
    assert read["properties"]["servedModel"] == BASE, "the weights keep their own name"
    again = call("PUT", address, json=read)
    assert (again.status_code, again.json()["properties"]["provisioningState"]) == (200, "Succeeded")
    assert within(WRITTEN, again.json()), "read-only properties that come back change nothing"
    assert within(WRITTEN, call("GET", f"{url}{PATH}").json()["value"][0])


def test_scale_settings_alone_are_a_sku_and_follow_it(url: str) -> None:
    address = f"{url}{PATH}/clippy"
    model = {"name": BASE}
    sent = {"properties": {"model": model, "scaleSettings": {"scaleType": "Manual", "capacity": 7}}}
    made = call("PUT", address, json=sent).json()
    assert (made["sku"], within(sent, made)) == ({"name": "ProvisionedManaged", "capacity": 7}, True)
    changed = call("PATCH", address, json={"sku": {"capacity": 9, "tier": "Premium"}}).json()
    assert changed["sku"] == {"name": "ProvisionedManaged", "capacity": 9, "tier": "Premium"}
    assert changed["properties"]["scaleSettings"] == {"scaleType": "Manual", "capacity": 9}
    plain = {"properties": {"model": model, "scaleSettings": {"scaleType": "Standard"}}}
    assert call("PUT", address, json=plain).json()["sku"] == {"name": "Standard", "capacity": 1}


def of(**properties: object) -> dict[str, object]:
    return {"sku": {"name": "Standard", "capacity": 1}, "properties": {"model": {"name": BASE}, **properties}}


REFUSED = [
    ("PUT", of(spilloverDeploymentName="other"), "properties.spilloverDeploymentName"),
    ("PUT", of(parentDeploymentName="other"), "properties.parentDeploymentName"),
    ("PUT", of(capacitySettings={"priority": 1}), "properties.capacitySettings"),
    ("PUT", of(versionUpgradeOption="Always"), "properties.versionUpgradeOption"),
    ("PUT", of(scaleSettings={"scaleType": "Standard", "capacity": 2}), "properties.scaleSettings.capacity"),
    ("PUT", of(scaleSettings={"scaleType": "Automatic"}), "properties.scaleSettings.scaleType"),
    ("PUT", of(deploymentState="Paused"), "properties.deploymentState"),
    ("PUT", of(raiPolicyName="\ud800"), "properties.raiPolicyName"),
    ("PUT", {**of(), "tags": {"k": "\ud800"}}, "tags.k"),
    ("PUT", of(model={"name": "\ud800"}), "properties.model.name"),
    ("PUT", of(model={"name": BASE, "weight": 1}), "properties.model.weight"),
    ("PUT", {**of(), "location": "westeurope"}, "location"),
    ("PUT", {**of(), "sku": {"name": "Standard", "capacity": 1, "tier": "Golden"}}, "sku.tier"),
    ("PUT", {**of(), "sku": {"name": "Standard", "capcity": 1}}, "sku.capcity"),
    ("PUT", {**of(), "sku": {"name": "Standard", "capacity": 0}}, "sku.capacity"),
    ("PATCH", {"properties": {"raiPolicyName": "p"}}, "properties"),
    ("PATCH", {"sku": {"capcity": 1}}, "sku.capcity"),
]


@pytest.mark.parametrize(("method", "sent", "place"), REFUSED)
def test_what_cannot_be_kept_is_refused_by_name(url: str, method: str, sent: dict[str, object], place: str) -> None:
    address = f"{url}{PATH}/clippy"
    before = call("PUT", address, json=of()).json()
    refused = call(method, address, content=json.dumps(sent))
    assert (refused.status_code, refused.json()["error"]["target"]) == (400, place)
    assert call("GET", address).json()["etag"] == before["etag"]


@pytest.mark.parametrize("wrong", ["/accounts/mycompany/", "/resourceGroups/my-rg/", "/subscriptions/1/"])
def test_path_of_another_resource_is_told_the_one_that_the_key_opens(url: str, wrong: str) -> None:
    kind = wrong.split("/")[1]
    path = re.sub(rf"/{kind}/[^/]+/", wrong, f"{PATH}/clippy")
    error = call("PUT", url + path, json=of()).json()["error"]
    assert error["code"] == "ResourceNotFound"
    assert f"Your key opens {PATH.removesuffix('/deployments')}." in error["message"]


def test_other_dialects_change_keeps_what_the_control_plane_was_sent(url: str, supervisor: Supervisor) -> None:
    call("PUT", f"{url}{PATH}/clippy", json=WRITTEN)
    supervisor.tick_deployments()
    head = {"api-key": KEY, "content-type": "application/merge-patch+json"}
    address = f"{url}/openai/deployments/clippy?api-version=2022-12-01"
    assert httpx2.patch(address, headers=head, json={"model": BASE}).status_code == 200
    properties = call("GET", f"{url}{PATH}/clippy").json()["properties"]
    assert (properties["raiPolicyName"], properties["model"]["name"]) == ("Microsoft.DefaultV2", BASE)


def test_azure_mgmt_with_its_own_interval_waits_as_long_as_the_deployment_takes(
    url: str, supervisor: Supervisor
) -> None:
    """Without Retry-After its poller sleeps 30 s before it looks for the first time."""
    management = CognitiveServicesManagementClient(KeyCredential(), DEFAULT_RESOURCE.subscription, base_url=url)
    began = time.monotonic()
    poller = management.deployments.begin_create_or_update(*WHERE, "clippy", of(), enforce_https=False)
    supervisor.tick_deployments()
    assert poller.result(timeout=20).properties.provisioning_state == "Succeeded"
    assert time.monotonic() - began < 10
    management.deployments.begin_delete(*WHERE, "clippy", enforce_https=False).result(timeout=20)
    assert time.monotonic() - began < 10


def test_retry_after_is_said_until_a_deployment_has_settled(url: str, supervisor: Supervisor) -> None:
    address = f"{url}{PATH}/clippy"
    assert call("PUT", address, json=of()).headers["retry-after"] == "1"
    assert call("GET", address).headers["retry-after"] == "1"
    assert call("PATCH", address, json={"tags": {}}).headers["retry-after"] == "1"
    supervisor.tick_deployments()
    assert "retry-after" not in call("GET", address).headers
    assert "retry-after" not in call("PUT", address, json=of()).headers
