"""Webhook endpoints by the official SDK, strictly its types, in every dialect; and in Azure's spelling."""

import stat
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx2
import openai
import pytest
from openai import AzureOpenAI, OpenAI

from fakes import KEY
from luthier.core.errors import InvalidRequest
from luthier.core.models import Principal
from luthier.core.webhooks.webhook_events import MAX_ENDPOINTS, WebhookEventType
from luthier.service.context import Context
from luthier.service.tenants import audit
from luthier.service.webhooks import signing_secrets, webhook_endpoints
from luthier.url_fetch.fetcher import GuardedFetcher
from servers import LOOPBACK
from webhook_receiver import Receiver, receiving

NAMES = {"receiver.example": "127.0.0.1", "public.example": "1.1.1.1", "inside.example": "10.0.0.1"}
DEFAULTS: dict[str, Any] = {
    "name": "jobs",
    "url": "https://public.example/hook",
    "event_types": ["fine_tuning.job.succeeded", "batch.failed"],
}


def resolve(host: str, port: int) -> list[str]:
    return [NAMES[host]] if host in NAMES else []


@pytest.fixture
def context(context: Context) -> Context:
    return replace(context, fetcher=GuardedFetcher(LOOPBACK, allow_http=True, resolve=resolve))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture(params=["openai", "azure", "azure-v1"])
def strict(request: pytest.FixtureRequest, url: str) -> Iterator[OpenAI]:
    options: dict[str, Any] = {"api_key": KEY, "max_retries": 0, "_strict_response_validation": True}
    if request.param == "azure":
        made: OpenAI = AzureOpenAI(azure_endpoint=url, api_version="2024-10-21", **options)
    else:
        made = OpenAI(base_url=url + {"openai": "/v1", "azure-v1": "/openai/v1"}[request.param], **options)
    with made:
        yield made


def test_sdk_creates_reads_changes_rotates_and_deletes_an_endpoint(strict: OpenAI) -> None:
    made = strict.webhooks.create(**DEFAULTS)
    assert made.signing_secret.startswith("whsec_")
    assert made.signing_secret_hint == f"whsec_...{made.signing_secret[-4:]}"
    read = strict.webhooks.retrieve(made.id)
    assert (read.name, read.url, read.event_types) == tuple(DEFAULTS.values())
    assert read.created_at == read.updated_at == made.created_at
    assert "signing_secret" not in read.to_dict()
    same = strict.webhooks.update(made.id, name="jobs")
    assert same.updated_at == made.updated_at, "an update that changes nothing does not advance it"
    changed = strict.webhooks.update(made.id, event_types=["batch.completed"])
    assert (changed.name, changed.event_types) == ("jobs", ["batch.completed"])
    assert changed.updated_at is not None
    assert changed.updated_at > made.created_at
    rotated = strict.webhooks.rotate_secret(made.id)
    assert rotated.signing_secret not in ("", made.signing_secret)
    assert strict.webhooks.retrieve(made.id).signing_secret_hint == rotated.signing_secret_hint
    gone = strict.webhooks.delete(made.id)
    assert (gone.id, gone.deleted, gone.object) == (made.id, True, "webhook_endpoint.deleted")
    with pytest.raises(openai.NotFoundError) as caught:
        strict.webhooks.retrieve(made.id)
    assert made.id in caught.value.message


def test_pages_are_newest_first_and_end(strict: OpenAI) -> None:
    made = [strict.webhooks.create(**DEFAULTS | {"name": str(number)}).id for number in range(5)]
    first = strict.webhooks.list(limit=2)
    assert [one.id for one in first.data] == made[:2:-1]
    assert first.has_more
    assert [one.id for one in strict.webhooks.list(limit=2)] == made[::-1]
    with pytest.raises(openai.BadRequestError):
        strict.webhooks.list(limit=101)
    with pytest.raises(openai.BadRequestError, match="nothing"):
        strict.webhooks.list(after="nothing")


def test_event_types_are_listed_and_all_of_them_are_the_sdks(strict: OpenAI) -> None:
    listed = strict.webhooks.event_types.list().data
    assert listed == list(WebhookEventType)
    assert strict.webhooks.create(**DEFAULTS | {"event_types": [*listed, *listed]}).event_types == listed


@pytest.mark.parametrize("base", ["/openai/v1/dashboard", "/openai/dashboard"])
def test_azures_spelling_is_served_at_azures_path(url: str, base: str) -> None:
    with httpx2.Client(base_url=url + base, headers={"api-key": KEY}, params={"api-version": "2024-10-21"}) as client:
        made = client.post("/webhook_endpoints", json=DEFAULTS).json()
        assert made["object"] == "webhook.endpoint"
        assert made["signing_secret"].startswith("whsec_")
        assert made["signing_secret_hint"].startswith("whsec_...")
        changed = client.post(f"/webhook_endpoints/{made['id']}", json={"name": "other"}).json()
        assert (changed["name"], changed["object"]) == ("other", "webhook.endpoint")
        page = client.get("/webhook_endpoints").json()
        assert (page["object"], [one["object"] for one in page["data"]]) == ("list", ["webhook.endpoint"])
        wrong = client.post(f"/webhook_endpoints/{made['id']}/rotate_secret", json=[1])
        assert wrong.status_code == 400
        rotated = client.post(f"/webhook_endpoints/{made['id']}/rotate_secret")
        assert rotated.json()["signing_secret"] != made["signing_secret"]
        gone = client.delete(f"/webhook_endpoints/{made['id']}").json()
        assert gone == {"id": made["id"], "object": "webhook.endpoint.deleted", "deleted": True}


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"event_types": ["realtime.call.incoming"]}, "event_types", "fine_tuning.job.succeeded, fine_tuning"),
        ({"event_types": ["nothing"]}, "event_types", "batch.cancelled"),
        ({"event_types": []}, "event_types", "at least one"),
        ({"event_types": "batch.failed"}, "event_types", ""),
        ({"name": ""}, "name", ""),
        ({"name": "n" * 257}, "name", ""),
        ({"url": "https://"}, "url", ""),
        ({"url": "ftp://public.example/"}, "url", "https"),
        ({"url": "https://10.0.0.1/"}, "url", "public addresses"),
        ({"url": "https://[::1]/"}, "url", "public addresses"),
        ({"url": "https://2130706433/"}, "url", "plain form"),
        ({"url": "https://inside.example/"}, "url", "public addresses"),
        ({"url": "https://nowhere.example/"}, "url", "public addresses"),
        ({"url": "https://user:word@public.example/"}, "url", "password"),
        ({"more": 1}, "more", ""),
    ],
)
def test_wrong_field_is_refused_by_name_at_creation_and_update(
    url: str, context: Context, caller: Principal, change: dict[str, Any], param: str, words: str
) -> None:
    there = webhook_endpoints.create(context, caller.resource.id, **DEFAULTS)[0].id
    for path, body in (("", DEFAULTS | change), (f"/{there}", change)):
        answer = httpx2.post(f"{url}/v1/webhook_endpoints{path}", headers={"api-key": KEY}, json=body)
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        assert error["param"].partition("[")[0] == param, error
        assert words in error["message"]
    assert len(webhook_endpoints.list_page(context, caller.resource.id, None, 100)[0]) == 1


def test_plain_http_is_refused_unless_the_operator_allows_it(context: Context, caller: Principal) -> None:
    strict = replace(context, fetcher=GuardedFetcher(LOOPBACK, resolve=resolve))
    with pytest.raises(InvalidRequest, match="LUTHIER_IMPORT_HTTP") as caught:
        webhook_endpoints.create(strict, caller.resource.id, **DEFAULTS | {"url": "http://public.example/"})
    assert caught.value.param == "url"


def test_more_endpoints_than_a_resource_may_have_are_refused(openai_client: OpenAI) -> None:
    for _ in range(MAX_ENDPOINTS):
        openai_client.webhooks.create(**DEFAULTS)
    with pytest.raises(openai.RateLimitError, match=f"{MAX_ENDPOINTS} webhook endpoints"):
        openai_client.webhooks.create(**DEFAULTS)
    openai_client.webhooks.delete(openai_client.webhooks.list().data[0].id)
    openai_client.webhooks.create(**DEFAULTS)


def test_secret_is_shown_once_and_stored_nowhere_in_the_clear(openai_client: OpenAI, context: Context) -> None:
    made = openai_client.webhooks.create(**DEFAULTS)
    rotated = openai_client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
    context.database.close()
    stored = b"".join(path.read_bytes() for path in context.data_folder.glob("luthier.db*"))
    for secret in (made.signing_secret, rotated.signing_secret):
        assert secret.removeprefix("whsec_").encode() not in stored
    assert stat.S_IMODE(context.webhook_key_file.stat().st_mode) == 0o600
    assert context.webhook_key_file.read_bytes().strip() not in stored
    for line in audit.read_entries(context.audit_file):
        assert (line.action, line.id) == ("webhooks/write", made.id)


def test_sealed_secret_opens_for_its_own_endpoint_alone(context: Context) -> None:
    sealed = signing_secrets.seal(context, "whe_1", b"s" * 32)
    assert signing_secrets.unseal(context, "whe_1", sealed) == b"s" * 32
    assert signing_secrets.seal(context, "whe_1", b"s" * 32) != sealed
    with pytest.raises(Exception, match="whe_2 cannot be opened"):
        signing_secrets.unseal(context, "whe_2", sealed)


def test_key_file_that_holds_no_key_is_told_and_not_replaced(openai_client: OpenAI, context: Context) -> None:
    context.webhook_key_file.write_bytes(b"not a key")
    with pytest.raises(openai.InternalServerError, match="does not hold a key") as caught:
        openai_client.webhooks.create(**DEFAULTS)
    assert caught.value.status_code == 503
    assert context.webhook_key_file.read_bytes() == b"not a key"


def test_sample_is_sent_at_once_and_its_answers_status_told(openai_client: OpenAI, receiver: Receiver) -> None:
    made = openai_client.webhooks.create(**DEFAULTS | {"url": receiver.url("/a?b=c")})
    for status in (200, 500, 302):
        receiver.answers.append(status)
        told = openai_client.webhooks.test(made.id, event_type="response.completed")
        assert (told.status_code, told.event_type, told.object) == (
            status,
            "response.completed",
            "webhook_endpoint.test",
        )
        assert told.webhook_endpoint_id == made.id
    assert receiver.paths() == ["/a?b=c"] * 3
    with pytest.raises(openai.BadRequestError, match="batch"):
        openai_client.webhooks.test(made.id, event_type="video.completed")
    openai_client.webhooks.update(made.id, url="http://receiver.example:1/")
    with pytest.raises(openai.BadRequestError, match="connection failed"):
        openai_client.webhooks.test(made.id, event_type="response.completed")
