"""Foundry's paths: a project endpoint and azure-ai-inference's are the routes they stand for, with all their rules."""

from typing import Any

import httpx2
import pytest
from openai import AzureOpenAI, OpenAI

import rows
from fakes import BASE, KEY
from luthier.api.http.path_aliases import canonical_path
from luthier.core.roles import Role
from luthier.service.background.supervisor import Supervisor
from luthier.service.context import Context
from luthier.service.models import deployments
from luthier.service.models.deployments import DeploymentRequest
from luthier.service.tenants import keys
from luthier.service.tenants.keys import DEFAULT_RESOURCE

PROJECT = "/api/projects/demo"
HELLO: dict[str, Any] = {"model": "clippy", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture
def clippy(url: str, context: Context, supervisor: Supervisor) -> str:
    deployments.put(context, DEFAULT_RESOURCE.id, DeploymentRequest("clippy", BASE, None, "Standard", 1))
    supervisor.tick_deployments()
    return url


def post(address: str, body: dict[str, Any] = HELLO, key: str = KEY, **more: Any) -> httpx2.Response:
    return httpx2.post(address, headers={"api-key": key}, json=body, **more)


def test_project_endpoint_is_azure_v1_for_the_openai_client(clippy: str) -> None:
    """As azure-ai-projects' get_openai_client() makes it."""
    with OpenAI(base_url=f"{clippy}{PROJECT}/openai/v1/", api_key=KEY, max_retries=0) as client:
        file = client.files.create(file=("t.jsonl", rows.good(10)), purpose="fine-tune")
        job = client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
        assert client.fine_tuning.jobs.retrieve(job.id).to_dict()["status"] == "pending"
        assert [one.id for one in client.files.list(limit=1)] == [file.id]
        assert client.chat.completions.create(**HELLO).model == BASE


def test_project_endpoint_is_the_dated_dialect_for_azd(clippy: str) -> None:
    base = f"{clippy}{PROJECT}/openai"
    with AzureOpenAI(base_url=base, api_key=KEY, api_version="2025-04-01-preview", max_retries=0) as client:
        assert client.fine_tuning.jobs.list().data == []
        made = client.files.with_raw_response.create(file=("t.jsonl", rows.good(10)), purpose="fine-tune")
        assert made.status_code == 201
        where = made.headers["location"]
    assert httpx2.get(where, headers={"api-key": KEY}, params={"api-version": "2024-10-21"}).status_code == 200
    assert httpx2.get(f"{base}/files", headers={"api-key": KEY}).json()["error"]["code"] == "MissingApiVersionParameter"


def test_models_chat_completions_is_azure_v1s_chat(clippy: str) -> None:
    for base in (clippy, clippy + PROJECT):
        answer = post(f"{base}/models/chat/completions?api-version=2024-05-01-preview")
        assert (answer.status_code, answer.json()["model"]) == (200, BASE)
        unknown = post(f"{base}/models/chat/completions", HELLO | {"model": "nobody"})
        assert unknown.json() == post(f"{clippy}/openai/v1/chat/completions", HELLO | {"model": "nobody"}).json()


def test_keys_roles_and_caps_hold_as_on_the_route_that_is_meant(clippy: str, context: Context) -> None:
    reader = keys.create(context, DEFAULT_RESOURCE.id, "reader", Role.USAGES_READER)
    for path in (f"{PROJECT}/openai/v1/chat/completions", "/models/chat/completions"):
        assert post(clippy + path, key="wrong").status_code == 401
        assert post(clippy + path, key=reader).status_code == 403
        assert post(clippy + path, HELLO | {"user": "u" * 9_000_000}).status_code == 413
    assert post(f"{clippy}{PROJECT}/openai/v1/fine_tuning/jobs", {"suffix": "s" * 600_000}).status_code == 413


@pytest.mark.parametrize(
    ("path", "ours"),
    [
        ("/api/projects/a/openai/deployments/d/files", "/openai/files"),
        ("/api/projects/a/openai/deployments/d/chat/completions", "/openai/deployments/d/chat/completions"),
        ("/api/projects/a/models/chat/completions", "/openai/v1/chat/completions"),
        ("/api/projects/a/subscriptions/s", "/api/projects/a/subscriptions/s"),
        ("/api/projects/a/b/openai/v1/files", "/api/projects/a/b/openai/v1/files"),
        ("/api/projects/a/openai/../v1/files", "/openai/../v1/files"),
        ("/v1/models", "/v1/models"),
        ("/openai/engines/a/embeddings", "/openai/deployments/a/embeddings"),
        ("/api/projects/a/models/embeddings", "/openai/v1/embeddings"),
        ("/models/chat/completionsx", "/models/chat/completionsx"),
    ],
)
def test_alias_leads_to_one_path_and_no_further(path: str, ours: str) -> None:
    assert canonical_path(path) == ours
