"""Downloads by URLs that moto's S3 and Azurite sign, through the official SDKs; what their stores get to see."""

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta

import httpx2
import pytest
from openai import AsyncAzureOpenAI, AsyncOpenAI, AzureOpenAI, OpenAI

import rows
from fakes import KEY
from luthier import blobs
from luthier.blobs import ObjectBlobs, SignedLinks
from luthier.service.context import Context
from object_servers import ACCOUNT_KEY, ObjectServer

pytestmark = pytest.mark.blobs

DATA = rows.good() + bytes(range(32, 127)) * 100_000  # 9.5 MB: a multipart upload
BEARER = {"authorization": f"Bearer {KEY}"}


@pytest.fixture
def store(object_server: ObjectServer) -> ObjectBlobs:
    return blobs.by_url(object_server.blobs_url).within(f"luthier-{uuid.uuid4().hex}")


@pytest.fixture
def context(context: Context, store: ObjectBlobs) -> Context:
    return replace(context, blobs=store, download_links=SignedLinks(store, timedelta(minutes=1)))


@pytest.fixture
def file(openai_client: OpenAI) -> str:
    return openai_client.files.create(file=("rows.jsonl", DATA), purpose="fine-tune").id


def test_sdks_follow_to_the_store_and_read_the_bytes(
    url: str, openai_client: OpenAI, file: str, object_server: ObjectServer
) -> None:
    content = openai_client.files.content(file)
    assert content.read() == DATA
    assert [one.status_code for one in content.response.history] == [302]
    assert str(content.response.url).startswith(object_server.address)
    assert "authorization" not in content.response.request.headers
    with openai_client.files.with_streaming_response.content(file) as streamed:
        assert b"".join(streamed.iter_bytes()) == DATA

    async def read() -> tuple[bytes, bytes]:
        async with (
            AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY) as client,
            AsyncAzureOpenAI(azure_endpoint=url, azure_ad_token=KEY, api_version="2024-10-21") as azure,
        ):
            return (await client.files.content(file)).read(), (await azure.files.content(file)).read()

    assert asyncio.run(read()) == (DATA, DATA)


def test_azures_client_follows_by_token_and_is_answered_by_the_service_by_key(
    url: str, azure: AzureOpenAI, file: str
) -> None:
    by_key = azure.files.content(file)
    assert (by_key.read(), by_key.response.history) == (DATA, [])
    with AzureOpenAI(azure_endpoint=url, azure_ad_token=KEY, api_version="2024-10-21") as client:
        by_token = client.files.content(file)
        assert (by_token.read(), len(by_token.response.history)) == (DATA, 1)


@pytest.mark.parametrize(
    ("asked", "start", "end", "n_redirects"),
    [
        ("bytes=0-0", 0, 1, 1),
        ("bytes=5-9", 5, 10, 1),
        ("bytes=9000000-", 9_000_000, None, 1),
        (f"bytes=9000000-{10**15}", 9_000_000, None, 1),
        ("bytes=-7", -7, None, 0),
    ],
)
def test_range_is_206_with_exactly_those_bytes_whoever_sends_them(
    url: str, file: str, asked: str, start: int, end: int | None, n_redirects: int
) -> None:
    answer = httpx2.get(f"{url}/v1/files/{file}/content", headers=BEARER | {"range": asked}, follow_redirects=True)
    assert (answer.status_code, answer.content) == (206, DATA[start:end])
    assert answer.headers["content-range"].endswith(f"/{len(DATA)}")
    assert len(answer.history) == n_redirects


def test_url_opens_one_blob_to_read_and_holds_no_key_of_the_store(
    url: str, file: str, object_server: ObjectServer
) -> None:
    location = httpx2.get(f"{url}/v1/files/{file}/content", headers=BEARER).headers["location"]
    for secret in (ACCOUNT_KEY, "test-secret", KEY):
        assert secret not in location
    assert httpx2.get(location).content == DATA
    if object_server.blobs_url.startswith("az:"):  # moto checks no signature
        assert httpx2.delete(location).status_code == 403
        assert httpx2.get(location.replace("/files/", "/reports/")).status_code == 403
