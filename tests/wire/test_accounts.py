"""Accounts and their models in the control plane, by the SDK that asks for them."""

import httpx2
import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient

from control_plane import KeyCredential
from fakes import BASE, KEY
from luthier.api.arm import arm_names
from luthier.service.context import Context
from luthier.service.tenants import resources
from luthier.service.tenants.keys import DEFAULT_RESOURCE

WHERE = (DEFAULT_RESOURCE.resource_group, DEFAULT_RESOURCE.account)
PLAIN = {"enforce_https": False}


@pytest.fixture
def management(url: str) -> CognitiveServicesManagementClient:
    return CognitiveServicesManagementClient(KeyCredential(), DEFAULT_RESOURCE.subscription, base_url=url)


def test_account_is_shown_with_the_endpoint_that_answers(
    url: str, management: CognitiveServicesManagementClient, context: Context
) -> None:
    resources.create(context, "other", None, None)
    account = management.accounts.get(*WHERE, **PLAIN)
    assert (account.id, account.name, account.kind) == (
        arm_names.id_of(DEFAULT_RESOURCE),
        DEFAULT_RESOURCE.account,
        "OpenAI",
    )
    assert account.properties.endpoint == f"{url}/"
    assert httpx2.get(f"{account.properties.endpoint}openai/v1/models", headers={"api-key": KEY}).status_code == 200
    listed = [*management.accounts.list(**PLAIN), *management.accounts.list_by_resource_group(WHERE[0], **PLAIN)]
    assert [one.name for one in listed] == [DEFAULT_RESOURCE.account] * 2, "another resource's is not told"


def test_models_of_account_and_location(management: CognitiveServicesManagementClient) -> None:
    found = {one.name: one for one in management.accounts.list_models(*WHERE, **PLAIN)}
    assert found[BASE].capabilities["fineTune"] == "true"
    assert found[BASE].base_model is None
    assert found["gpt-4o-mini"].base_model.name == BASE
    assert "GlobalStandard" in {sku.name for sku in found[BASE].skus}
    assert {one.model.name for one in management.models.list("anywhere", **PLAIN)} == set(found)


def test_other_subscriptions_groups_and_accounts_are_not_found(url: str) -> None:
    base = f"{url}/subscriptions/{DEFAULT_RESOURCE.subscription}"
    provider = "/providers/Microsoft.CognitiveServices"
    nowhere = "11111111-1111-1111-1111-111111111111"
    for address in (
        f"{url}/subscriptions/{nowhere}{provider}/accounts",
        f"{url}/subscriptions/{nowhere}{provider}/locations/local/models",
        f"{base}/resourceGroups/nowhere{provider}/accounts",
        f"{base}/resourceGroups/{WHERE[0]}{provider}/accounts/nobody",
        f"{base}/resourceGroups/{WHERE[0]}{provider}/accounts/nobody/models",
    ):
        assert httpx2.get(address, headers={"api-key": KEY}).status_code == 404, address


def test_account_that_is_written_names_who_makes_them(management: CognitiveServicesManagementClient) -> None:
    body = {"location": "local", "kind": "OpenAI", "sku": {"name": "S0"}, "properties": {}}
    with pytest.raises(HttpResponseError, match="luthier resources create") as caught:
        management.accounts.begin_create(*WHERE, body, **PLAIN)
    assert caught.value.status_code == 400
    with pytest.raises(HttpResponseError, match="luthier resources create"):
        management.accounts.begin_delete(*WHERE, **PLAIN)
