"""Roles: every route x every role, as the app has them; and the table of routes, without which nothing starts."""

import re

import httpx2
import pytest
from fastapi import FastAPI
from openai import OpenAI, PermissionDeniedError

import walk
from fakes import BASE, KEY
from luthier.api.routing import guarded_route
from luthier.api.routing.operation import json_reply
from luthier.api.routing.router import Router
from luthier.core import roles
from luthier.core.models import Principal
from luthier.core.roles import ACTIONS, Action, Role
from luthier.service.context import Context
from luthier.service.tenants import keys

ARM = "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a"


@pytest.fixture
def key_of(context: Context, caller: Principal) -> dict[Role, str]:
    return {role: keys.create(context, caller.resource.id, role.lower().replace(" ", "-"), role) for role in Role}


def test_every_route_lets_in_exactly_the_roles_with_its_action(app: FastAPI, url: str, key_of: dict[Role, str]) -> None:
    walked = walk.calls(app)
    assert len(walked) > 130
    for call in walked:
        action = call.action
        for role, key in key_of.items():
            answer = walk.request(url, call, walk.NEVER, key)
            assert (answer.status_code == 403) is (action not in ACTIONS[role]), (str(call), role, answer.text)
            if answer.status_code == 403 and call.method != "HEAD":
                message = answer.json()["error"]["message"]
                assert str(role) in message, call
                assert str(action) in message, call
                assert all(able in message for able in roles.with_action(action)), call


def test_every_route_needs_a_key(app: FastAPI, url: str) -> None:
    for call in walk.calls(app):
        answer = walk.request(url, call, walk.NEVER, None)
        assert answer.status_code == 401, str(call)


ROUTES: dict[Action, tuple[str, ...]] = {
    Action.INFER: (
        "POST /chat/completions",
        "POST /completions",
        "POST /embeddings",
        "POST /luthier/parity",
        "POST /responses",
        "POST /responses/input_tokens",
        "GET /responses/{}",
        "DELETE /responses/{}",
        "POST /responses/{}/cancel",
        "GET /responses/{}/input_items",
    ),
    Action.FILES_READ: (
        "GET /files",
        "GET /files/{}",
        "GET /files/{}/content",
        "HEAD /files/{}/content",
        "GET /files/{}/report",
        "GET /luthier/files/{}/rows",
    ),
    Action.FILES_WRITE: (
        "POST /files",
        "POST /files/import",
        "DELETE /files/{}",
        "POST /uploads",
        "POST /uploads/{}/cancel",
        "POST /uploads/{}/complete",
        "POST /uploads/{}/parts",
    ),
    Action.JOBS_READ: (
        "GET /fine_tuning/checkpoints/{}/permissions",
        "GET /fine_tuning/jobs",
        "GET /fine_tuning/jobs/{}",
        "GET /fine_tuning/jobs/{}/attempts",
        "GET /fine_tuning/jobs/{}/checkpoints",
        "POST /fine_tuning/jobs/{}/checkpoints",
        "GET /fine_tuning/jobs/{}/checkpoints/{}/copy",
        "GET /fine_tuning/jobs/{}/events",
        "POST /fine_tuning/jobs/{}/events",
        "POST /luthier/estimate",
        "GET /luthier/jobs/{}/details",
        "GET /luthier/jobs/{}/hardest-rows",
        "GET /luthier/jobs/{}/metrics",
    ),
    Action.JOBS_WRITE: (
        "POST /fine_tuning/jobs",
        "DELETE /fine_tuning/jobs/{}",
        "POST /fine_tuning/jobs/{}/cancel",
        "POST /fine_tuning/jobs/{}/pause",
        "POST /fine_tuning/jobs/{}/resume",
    ),
    Action.BATCHES_READ: (
        "GET /batches",
        "GET /batches/{}",
    ),
    Action.BATCHES_WRITE: (
        "POST /batches",
        "POST /batches/{}/cancel",
    ),
    Action.MODELS_READ: (
        "GET /accounts/{}/models",
        "GET /locations/{}/models",
        "GET /luthier/exports",
        "GET /luthier/exports/{}",
        "GET /luthier/status",
        "GET /models",
        "GET /models/{}",
    ),
    Action.MODELS_WRITE: (
        "POST /fine_tuning/checkpoints/{}/permissions",
        "DELETE /fine_tuning/checkpoints/{}/permissions/{}",
        "DELETE /luthier/exports/{}",
        "GET /luthier/exports/{}/content",
        "GET /luthier/exports/{}/files/{}",
        "POST /luthier/exports",
        "POST /fine_tuning/jobs/{}/checkpoints/{}/copy",
        "DELETE /models/{}",
    ),
    Action.DEPLOYMENTS_READ: (
        "GET /accounts/{}/deployments",
        "GET /accounts/{}/deployments/{}",
        "GET /accounts/{}/deployments/{}/skus",
        "GET /accounts/{}/skus",
        "GET /deployments",
        "GET /deployments/{}",
        "GET /luthier/engines",
    ),
    Action.DEPLOYMENTS_WRITE: (
        "DELETE /accounts/{}/deployments/{}",
        "PATCH /accounts/{}/deployments/{}",
        "POST /accounts/{}/deployments/{}",
        "PUT /accounts/{}/deployments/{}",
        "POST /deployments",
        "DELETE /deployments/{}",
        "PATCH /deployments/{}",
    ),
    Action.RESOURCES_READ: (
        "GET /accounts",
        "GET /accounts/{}",
    ),
    Action.RESOURCES_WRITE: (
        "DELETE /accounts/{}",
        "PATCH /accounts/{}",
        "PUT /accounts/{}",
    ),
    Action.KEYS_READ: ("POST /accounts/{}/listKeys",),
    Action.KEYS_WRITE: ("POST /accounts/{}/regenerateKey",),
    Action.WEBHOOKS_READ: (
        "GET /dashboard/webhook_endpoints",
        "GET /dashboard/webhook_endpoints/{}",
        "GET /dashboard/webhook_event_types",
        "GET /webhook_endpoints",
        "GET /webhook_endpoints/{}",
        "GET /webhook_event_types",
    ),
    Action.WEBHOOKS_WRITE: (
        "DELETE /dashboard/webhook_endpoints/{}",
        "DELETE /webhook_endpoints/{}",
        "POST /dashboard/webhook_endpoints",
        "POST /dashboard/webhook_endpoints/{}",
        "POST /dashboard/webhook_endpoints/{}/rotate_secret",
        "POST /dashboard/webhook_endpoints/{}/test",
        "POST /webhook_endpoints",
        "POST /webhook_endpoints/{}",
        "POST /webhook_endpoints/{}/rotate_secret",
        "POST /webhook_endpoints/{}/test",
    ),
    Action.USAGES_READ: (
        "GET /accounts/{}/usages",
        "GET /metrics",
        "GET /locations/{}/usages",
    ),
}
"""Written out by hand, without prefixes and names of parameters, so that a change of an action shows."""


def test_every_route_has_the_action_that_is_written_here(app: FastAPI) -> None:
    expected = {route: action for action, routes in ROUTES.items() for route in routes}
    actual = {f"{call.method} {bare(call.template)}": call.action for call in walk.calls(app)}
    assert actual == expected | {"GET /fine-tunes/{}/events": Action.JOBS_READ}


def bare(template: str) -> str:
    """A path template without its prefix, a deployment in front, and the names of its parameters."""
    path = re.sub(r"\{[^{}]*\}", "{}", template)
    path = re.sub(r"^/subscriptions/\{\}(/resourceGroups/\{\})?/providers/Microsoft\.CognitiveServices(?=/)", "", path)
    path = re.sub(r"^(/openai/v1|/openai|/v1)(?=/)", "", path)
    return re.sub(r"^/(deployments|engines)/\{\}(?=/)", "", path)


ALLOWED = {
    ("POST", "/v1/chat/completions"): {Role.OPENAI_USER, Role.OPENAI_CONTRIBUTOR},
    ("GET", "/openai/v1/models"): {Role.OPENAI_USER, Role.OPENAI_CONTRIBUTOR, Role.CONTRIBUTOR},
    ("GET", "/v1/files"): {Role.OPENAI_CONTRIBUTOR, Role.CONTRIBUTOR},
    ("POST", "/openai/files"): {Role.OPENAI_CONTRIBUTOR, Role.CONTRIBUTOR},
    ("POST", "/v1/fine_tuning/jobs"): {Role.OPENAI_CONTRIBUTOR, Role.CONTRIBUTOR},
    ("GET", f"{ARM}/deployments"): {Role.OPENAI_USER, Role.OPENAI_CONTRIBUTOR, Role.CONTRIBUTOR},
    ("PUT", f"{ARM}/deployments/d"): {Role.OPENAI_CONTRIBUTOR, Role.CONTRIBUTOR},
    ("POST", f"{ARM}/regenerateKey"): {Role.CONTRIBUTOR},
    ("GET", f"{ARM}/usages"): {Role.CONTRIBUTOR, Role.USAGES_READER},
    ("GET", "/v1/webhook_endpoints"): {Role.OPENAI_CONTRIBUTOR, Role.CONTRIBUTOR},
    ("POST", "/openai/v1/dashboard/webhook_endpoints"): {Role.OPENAI_CONTRIBUTOR, Role.CONTRIBUTOR},
}
"""Written out by hand from wire-contract.md section 18, so that a change of the tables shows."""


@pytest.mark.parametrize(("method", "path"), ALLOWED)
def test_roles_allow_what_azure_says(url: str, key_of: dict[Role, str], method: str, path: str) -> None:
    for role, key in key_of.items():
        answer = httpx2.request(method, url + path, params={"api-version": "2024-10-21"}, headers={"api-key": key})
        allowed = role is Role.OWNER or role in ALLOWED[method, path]
        assert (answer.status_code != 403) is allowed, (role, answer.text)


def test_sdk_of_an_inference_key_chats_and_gets_its_own_error_for_the_rest(url: str, key_of: dict[Role, str]) -> None:
    with OpenAI(base_url=f"{url}/v1", api_key=key_of[Role.OPENAI_USER], max_retries=0) as client:
        assert client.chat.completions.create(model=BASE, messages=[{"role": "user", "content": "hi"}]).choices
        assert BASE in {model.id for model in client.models.list()}
        with pytest.raises(PermissionDeniedError, match="files/write") as caught:
            client.files.create(file=b"{}", purpose="fine-tune")
    assert caught.value.code == "role_not_sufficient"
    assert "Cognitive Services OpenAI Contributor" in caught.value.message


def test_service_does_not_start_with_a_route_that_declares_no_action(app: FastAPI) -> None:
    guarded_route.check_routes(app.routes)

    @app.post("/v1/forgotten/{id}")
    def forgotten(id: str) -> str:
        return id

    with pytest.raises(RuntimeError, match=r"POST /v1/forgotten/\{id\}"):
        guarded_route.check_routes(app.routes)


def test_route_whose_endpoint_takes_no_caller_cannot_be_registered() -> None:
    router = Router(tag="test")
    with pytest.raises(TypeError, match="/v1/open needs a key"):

        @router.get("/v1/open", Action.FILES_READ, "Read without a key", json_reply({}))
        def read_without_key() -> object:
            return {}


def test_regenerated_key_opens_and_the_old_one_no_longer(url: str, context: Context) -> None:
    account = f"{url}{ARM}".replace("/s/", "/00000000-0000-0000-0000-000000000000/").replace("/g/", "/luthier/")
    account = account.removesuffix("/a") + "/luthier"
    for name in ("Key2", "key1"):
        answer = httpx2.post(f"{account}/regenerateKey", headers={"api-key": KEY}, json={"keyName": name})
        assert answer.status_code == 200, answer.text
        [(shown, key)] = answer.json().items()
        assert shown == name.lower()
        assert keys.authenticate(context, [key]).key_name == shown
    assert context.key_file.read_text().strip() == key
    assert keys.prepare_default(context, context.key_file, None) == key
    assert httpx2.get(f"{url}/v1/files", headers={"api-key": KEY}).status_code == 401
    listed = httpx2.post(f"{account}/listKeys", headers={"api-key": key})
    assert listed.status_code == 400
    assert "hashes" in listed.json()["error"]["message"]
    wrong = httpx2.post(f"{account}/regenerateKey", headers={"api-key": key}, json={"keyName": "key3"})
    assert wrong.status_code == 400
