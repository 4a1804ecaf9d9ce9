"""Deployments through the control plane: plain REST, and a credential for Azure's own client."""

from typing import Any

import httpx2
from azure.core.credentials import AccessToken

from fakes import KEY
from luthier.api.arm import arm_names
from luthier.service.tenants.keys import DEFAULT_RESOURCE

PATH = arm_names.path_of(DEFAULT_RESOURCE)
VERSION = {"api-version": "2024-10-01"}


def put(url: str, name: str, model: str, sku: str = "standard") -> httpx2.Response:
    body = {
        "sku": {"name": sku, "capacity": 1},
        "properties": {"model": {"format": "OpenAI", "name": model, "version": "1"}},
    }
    return call("PUT", f"{url}{PATH}/{name}", json=body)


def call(method: str, address: str, **more: Any) -> httpx2.Response:
    return httpx2.request(method, address, params=VERSION, headers={"Authorization": f"Bearer {KEY}"}, **more)


class KeyCredential:
    """Hands the resource's key to azure-mgmt, which sends it as a bearer token."""

    def get_token(self, *scopes: str, **options: object) -> AccessToken:
        return AccessToken(KEY, 4102444800)
