"""How Azure's samples begin: DefaultAzureCredential and token providers of azure-identity, against our keys."""

from typing import Any

import httpx2
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import DefaultAzureCredential, get_bearer_token_provider
from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient
from openai import AuthenticationError, AzureOpenAI, OpenAI

from fakes import KEY
from luthier.service.context import Context
from luthier.service.tenants import keys
from luthier.service.tenants.keys import DEFAULT_RESOURCE

SCOPE = "https://cognitiveservices.azure.com/.default"
SECRETS = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE", "MSI_ENDPOINT")


@pytest.fixture
def credential(url: str, monkeypatch: pytest.MonkeyPatch) -> DefaultAzureCredential:
    """The variables of docs/azure-identity.md and no others."""
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", KEY)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
    return DefaultAzureCredential()


def test_sample_with_default_azure_credential_runs_unchanged(url: str, credential: DefaultAzureCredential) -> None:
    provider = get_bearer_token_provider(credential, SCOPE)
    with AzureOpenAI(
        azure_endpoint=url, azure_ad_token_provider=provider, api_version="2024-10-21", max_retries=0
    ) as client:
        assert client.fine_tuning.jobs.list().data == []
    with OpenAI(base_url=f"{url}/openai/v1/", api_key=provider, max_retries=0) as client:
        assert client.files.list().data == []
    management = CognitiveServicesManagementClient(credential, DEFAULT_RESOURCE.subscription, base_url=url)
    where = DEFAULT_RESOURCE.resource_group, DEFAULT_RESOURCE.account
    assert list(management.deployments.list(*where, enforce_https=False)) == []


def test_key_that_opens_nothing_is_told_by_the_credential(
    url: str, credential: DefaultAzureCredential, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IDENTITY_HEADER", "wrong")
    with pytest.raises(ClientAuthenticationError, match="IDENTITY_HEADER must be a key of Luthier"):
        DefaultAzureCredential().get_token(SCOPE)
    for header in ({}, {"x-identity-header": "wrong"}):
        assert httpx2.get(f"{url}/msi/token", headers=header).status_code == 401
    given = httpx2.get(f"{url}/msi/token", headers={"x-identity-header": KEY}, params={"resource": "r"})
    assert (given.json()["access_token"], given.json()["resource"]) == (KEY, "r")
    assert given.headers["cache-control"] == "no-store"


def test_revoked_key_opens_nothing_though_the_credential_still_has_it(
    url: str, credential: DefaultAzureCredential, context: Context
) -> None:
    token = get_bearer_token_provider(credential, SCOPE)()
    assert token == KEY
    keys.regenerate(context, DEFAULT_RESOURCE.id, "key1")
    with (
        AzureOpenAI(azure_endpoint=url, azure_ad_token=token, api_version="2024-10-21") as client,
        pytest.raises(AuthenticationError),
    ):
        client.models.list()


class LuthierCredential:
    """The five lines of docs/azure-identity.md."""

    def __init__(self, key: str) -> None:
        self.key = key

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(self.key, 2**31 - 1)


def test_credential_of_five_lines_stands_in_for_azures(url: str) -> None:
    provider = get_bearer_token_provider(LuthierCredential(KEY), SCOPE)
    with AzureOpenAI(azure_endpoint=url, azure_ad_token_provider=provider, api_version="2024-10-21") as client:
        assert client.models.list().data
    with AzureOpenAI(azure_endpoint=url, azure_ad_token_provider=lambda: KEY, api_version="2024-10-21") as client:
        assert client.models.list().data
