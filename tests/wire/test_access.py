"""Keys, versions, unknown routes and the shape of errors in each dialect."""

import logging
import stat
from pathlib import Path

import httpx2
import openai
import pytest
from openai import AzureOpenAI, OpenAI

from fakes import KEY
from luthier.service.context import Context
from luthier.service.tenants import keys

ROUTES = [
    ("GET", "/v1/files"),
    ("POST", "/v1/fine_tuning/jobs"),
    ("GET", "/openai/files?api-version=2024-10-21"),
    ("GET", "/openai/v1/models"),
    ("POST", "/openai/deployments/d/chat/completions?api-version=2024-10-21"),
    ("GET", "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/a/deployments"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("headers", [{}, {"api-key": "wrong"}, {"authorization": "Bearer wrong"}])
def test_without_the_right_key_every_route_is_a_401(url: str, method: str, path: str, headers: dict[str, str]) -> None:
    answer = httpx2.request(method, url + path, headers=headers)
    assert answer.status_code == 401
    message = answer.json()["error"]["message"]
    assert "luthier serve" in message
    assert "wrong" not in message


@pytest.mark.parametrize(
    "headers",
    [
        {"api-key": KEY},
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer {KEY}"},
        {"api-key": KEY, "authorization": "Bearer something-else"},
    ],
)
def test_right_key_opens_in_either_header(url: str, headers: dict[str, str]) -> None:
    assert httpx2.get(f"{url}/v1/files", headers=headers).status_code == 200


def test_sdk_raises_its_own_authentication_error(url: str) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0).files.list()
    assert caught.value.code == "invalid_api_key"
    azure = AzureOpenAI(azure_endpoint=url, api_key="wrong", api_version="2024-10-21", max_retries=0)
    with pytest.raises(openai.AuthenticationError) as caught:
        azure.files.list()
    assert caught.value.code == "401"


def test_azure_without_or_with_a_strange_version_says_what_to_write(url: str) -> None:
    head = {"api-key": KEY}
    missing = httpx2.get(f"{url}/openai/files", headers=head)
    assert (missing.status_code, missing.json()["error"]["code"]) == (400, "MissingApiVersionParameter")
    strange = httpx2.get(f"{url}/openai/files?api-version=soon", headers=head)
    assert strange.status_code == 400
    for version in ("2024-10-21", "2025-04-01-preview", "2023-05-15"):
        assert httpx2.get(f"{url}/openai/files?api-version={version}", headers=head).status_code == 200


def test_unknown_route_and_method_are_told_in_the_dialects_shape(url: str) -> None:
    unknown = httpx2.get(f"{url}/openai/nothing?api-version=2024-10-21", headers={"api-key": KEY})
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "404")
    plain = httpx2.get(f"{url}/v1/nothing").json()["error"]
    assert set(plain) == {"message", "type", "param", "code"}
    assert httpx2.put(f"{url}/v1/files").status_code == 405


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b'{"model": 3, "training_file": []}', b"\xff\xfe"])
def test_broken_json_is_a_400_never_a_500(url: str, body: bytes) -> None:
    headers = {"api-key": KEY, "content-type": "application/json"}
    for path in ("/v1/fine_tuning/jobs", "/openai/v1/chat/completions"):
        answer = httpx2.post(url + path, headers=headers, content=body)
        assert answer.status_code == 400, (path, body)
        assert answer.json()["error"]["message"]


def test_every_fault_of_a_body_is_told_at_once(url: str) -> None:
    body = {"modle": "x", "seed": "many"}
    answer = httpx2.post(f"{url}/v1/fine_tuning/jobs", headers={"api-key": KEY}, json=body).json()["error"]
    for word in ("model", "training_file", "modle", "seed"):
        assert word in answer["message"]


def test_errors_carry_request_id_and_tell_sdks_not_to_retry(url: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="luthier"):
        answer = httpx2.get(f"{url}/v1/files/file-none", headers={"api-key": KEY})
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-request-id"] in caplog.text
    assert KEY not in caplog.text


def test_health_needs_no_key(url: str) -> None:
    assert httpx2.get(f"{url}/healthz").json() == {"status": "alive"}
    assert httpx2.get(f"{url}/readyz").json()["base_models"] == ["smollm2-135m-instruct"]


def test_readyz_without_a_base_model_says_what_to_run(url: str, context: Context) -> None:
    (context.base_folder("smollm2-135m-instruct") / "prepared.json").unlink()
    answer = httpx2.get(f"{url}/readyz")
    assert answer.status_code == 503
    assert "luthier models pull" in answer.json()["status"]


def test_key_file_is_the_owners_alone_and_the_database_holds_only_the_hash(context: Context, tmp_path: Path) -> None:
    key_file = tmp_path / "fresh" / "api-key"
    key = keys.prepare_default(context, key_file, None)
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert len(key) == 64
    assert keys.prepare_default(context, key_file, None) == key
    assert keys.authenticate(context, [key]).resource == keys.DEFAULT_RESOURCE
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").glob("luthier.db*"))
    assert key.encode() not in stored


@pytest.mark.parametrize(("path", "dated"), [("/v1", "created"), ("/openai/v1", "created"), ("/openai", "created_at")])
def test_models_have_their_date_under_one_name(url: str, path: str, dated: str) -> None:
    """Azure's notebook renames `created` to `created_at`, and a table with two columns of one name is none."""
    answer = httpx2.get(f"{url}{path}/models?api-version=2024-10-21", headers={"api-key": KEY}).json()
    for model in answer["data"]:
        assert [name for name in model if name.startswith("created")] == [dated]


def test_models_list_says_which_weights_stand_behind_each_name(azure: AzureOpenAI, openai_client: OpenAI) -> None:
    for client in (azure, openai_client):
        found = {model.id: model.to_dict() for model in client.models.list()}
        alias = found["gpt-35-turbo-0125"]
        assert alias["model"] == "smollm2-135m-instruct"
        assert alias["weights"] == "SmolLM2-135M-Instruct, 135M parameters, Apache-2.0"
        assert alias["capabilities"]["fine_tune"]
        assert alias["lifecycle_status"] == "generally-available"
        assert not found["qwen3-8b"]["ready"]
        assert (alias["abilities"], found["qwen3-8b"]["abilities"]) == (["tools"], ["tools"])
        assert client.models.retrieve("gpt-4o-mini").to_dict()["weights"] == alias["weights"]
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("nobody")
        with pytest.raises(openai.BadRequestError, match="base model"):
            client.models.delete("gpt-4o-mini")
