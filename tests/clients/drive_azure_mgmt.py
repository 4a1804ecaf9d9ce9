"""azure-mgmt-cognitiveservices: deployments through the control plane, long-running answers followed."""

from importlib import metadata
from typing import Any

from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.mgmt.cognitiveservices import CognitiveServicesManagementClient
from drive import ARM_PATH, EMBEDDER, KEY, URL, Drive, report, tuned
from drive import wanted as want

_, _, SUBSCRIPTION, _, GROUP, _, _, _, ACCOUNT, _ = ARM_PATH.split("/")
PLAIN: dict[str, Any] = {"enforce_https": False}
"""The client sends bearer tokens over https alone unless each call says otherwise."""


class Credential:
    def __init__(self, key: str) -> None:
        self.key = key

    def get_token(self, *scopes: str, **options: object) -> AccessToken:
        return AccessToken(self.key, 4102444800)


def make(key: str = KEY) -> CognitiveServicesManagementClient:
    return CognitiveServicesManagementClient(Credential(key), SUBSCRIPTION, base_url=URL, polling_interval=0.1)


def refused(kind: type[HttpResponseError], status: int, code: str, asked: Any) -> None:
    try:
        asked()
    except kind as error:
        want(error.status_code == status and error.error and error.error.code == code, repr(error))
        return
    raise AssertionError(f"no {kind.__name__}")


def main() -> None:
    drive, model, where = Drive(), tuned(), (GROUP, ACCOUNT)
    with make() as client:
        calls = client.deployments
        body = {
            "sku": {"name": "Standard", "capacity": 1},
            "properties": {"model": {"format": "OpenAI", "name": model, "version": "1"}},
        }
        with drive.step("begin_create_or_update, polled"):
            made = calls.begin_create_or_update(*where, "managed", body, **PLAIN).result(timeout=30)
            want(made.properties.provisioning_state == "Succeeded" and made.sku.name == "Standard", made)
        with drive.step("begin_create_or_update again"):
            again = calls.begin_create_or_update(*where, "managed", body, **PLAIN).result(timeout=30)
            want(again.properties.model.name == model, again)
        with drive.step("get"):
            found = calls.get(*where, "managed", **PLAIN)
            want(found.name == "managed" and found.properties.model.name == model, found)
        with drive.step("list"):
            want({one.name for one in calls.list(*where, **PLAIN)} == {"managed", EMBEDDER}, "other names")
        with drive.step("list_skus"):
            want("Standard" in {sku.sku.name for sku in calls.list_skus(*where, "managed", **PLAIN)}, "no Standard")
        with drive.step("begin_update"):
            change = {"sku": {"name": "Standard", "capacity": 2}, "tags": {"of": "tests"}}
            changed = calls.begin_update(*where, "managed", change, **PLAIN).result(timeout=30)
            want(changed.sku.capacity == 2, changed)
        with drive.step("error 400"):
            wrong = {**body, "properties": {"model": {"format": "OpenAI", "name": "none", "version": "1"}}}
            refused(
                HttpResponseError,
                400,
                "DeploymentModelNotSupported",
                lambda: calls.begin_create_or_update(*where, "other", wrong, **PLAIN),
            )
        with drive.step("error 404"):
            refused(ResourceNotFoundError, 404, "DeploymentNotFound", lambda: calls.get(*where, "none", **PLAIN))
        with drive.step("begin_delete"):
            calls.begin_delete(*where, "managed", **PLAIN).wait(timeout=30)
            calls.begin_delete(*where, "managed", **PLAIN).wait(timeout=30)
            want({one.name for one in calls.list(*where, **PLAIN)} == {EMBEDDER}, "still there")
    with drive.step("error 401"), make("wrong") as stranger:
        refused(
            ClientAuthenticationError,
            401,
            "InvalidAuthenticationToken",
            lambda: stranger.deployments.get(*where, "managed", **PLAIN),
        )
    report(metadata.version("azure-mgmt-cognitiveservices"), {"control plane": drive})


if __name__ == "__main__":
    main()
