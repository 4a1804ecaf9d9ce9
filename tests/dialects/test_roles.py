"""Roles: every route x every role, as the app has them; and the table of routes, without which nothing starts."""

import httpx2
import pytest
from fastapi import FastAPI
from openai import OpenAI, PermissionDeniedError

import walk
from fakes import BASE, KEY
from luthier.api import permissions
from luthier.core import roles
from luthier.core.models import Principal
from luthier.core.roles import ACTIONS, Action, Role
from luthier.service import keys
from luthier.service.context import Context

ARM = "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a"


@pytest.fixture
def key_of(context: Context, caller: Principal) -> dict[Role, str]:
    return {role: keys.create(context, caller.resource.id, role.lower().replace(" ", "-"), role) for role in Role}


def test_every_route_lets_in_exactly_the_roles_with_its_action(app: FastAPI, url: str, key_of: dict[Role, str]) -> None:
    walked = walk.calls(app)
    assert len(walked) > 130
    for call in walked:
        action = permissions.action_of(call.method, call.template)
        assert action is not None
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
}
"""Written out by hand from contract section 18, so that a change of the tables shows."""


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


def test_service_does_not_start_with_a_route_that_no_action_stands_for(app: FastAPI) -> None:
    permissions.check_routes(app.routes)

    @app.post("/v1/forgotten/{id}")
    def forgotten(id: str) -> str:
        return id

    with pytest.raises(RuntimeError, match=r"POST /v1/forgotten/\{id\}"):
        permissions.check_routes(app.routes)


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("POST", "/openai/deployments/{d}/chat/completions", Action.INFER),
        ("POST", "/v1/engines/{e}/chat/completions", Action.INFER),
        ("GET", "/openai/deployments/{d}/fine_tuning/jobs/{id}", Action.JOBS_READ),
        ("GET", "/fine_tuning/jobs/{id}/events", Action.JOBS_READ),
        ("POST", "/openai/fine_tuning/jobs/{id}/events", Action.JOBS_READ),
        ("DELETE", "/openai/deployments/{d}", Action.DEPLOYMENTS_WRITE),
        ("HEAD", "/openai/v1/files/{id}/content", Action.FILES_READ),
        ("POST", "/openai/v1/uploads/{u}/parts", Action.FILES_WRITE),
        ("GET", "/openai/v2/files", None),
        ("DELETE", "/v1/files", None),
    ],
)
def test_route_of_any_prefix_is_the_action_behind_it(method: str, path: str, action: Action | None) -> None:
    assert permissions.action_of(method, path) is action


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
