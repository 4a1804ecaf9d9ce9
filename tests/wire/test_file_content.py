"""A file's content: whole, in ranges, by its entity tag."""

import httpx2
import pytest
from openai import OpenAI

import rows
from fakes import BASE, KEY
from luthier.service.background.supervisor import Supervisor

DATA = bytes(range(200)) * 50_000  # 10 MB: more than one chunk of any layer
HEAD = {"api-key": KEY}


@pytest.fixture
def content_url(url: str, openai_client: OpenAI) -> str:
    file = openai_client.files.create(file=("a.jsonl", DATA), purpose="fine-tune")
    return f"{url}/v1/files/{file.id}/content"


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-99", 0, 99),
        ("bytes=100-", 100, len(DATA) - 1),
        ("bytes=-7", len(DATA) - 7, len(DATA) - 1),
        (f"bytes=5-{10**40}", 5, len(DATA) - 1),
        ("bytes=-" + "9" * 5000, 0, len(DATA) - 1),
        (f"bytes={len(DATA) - 1}-", len(DATA) - 1, len(DATA) - 1),
        ("Bytes=3000000-6999999", 3_000_000, 6_999_999),
    ],
)
def test_range_is_206_with_exactly_those_bytes(content_url: str, asked: str, start: int, end: int) -> None:
    answer = httpx2.get(content_url, headers=HEAD | {"range": asked})
    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes {start}-{end}/{len(DATA)}"
    assert answer.content == DATA[start : end + 1]


@pytest.mark.parametrize("asked", [f"bytes={len(DATA)}-", f"bytes={10**30}-", "bytes=-0"])
def test_range_beyond_the_end_is_416_and_tells_the_length(content_url: str, asked: str) -> None:
    answer = httpx2.get(content_url, headers=HEAD | {"range": asked})
    assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{len(DATA)}")
    assert answer.json()["error"]["code"] == "range_not_satisfiable"


@pytest.mark.parametrize("asked", ["bytes=5-4", "bytes=-", "bytes=a-b", "lines=0-1", "bytes=0-1,4-5", ""])
def test_what_is_no_single_range_is_answered_with_the_whole_file(content_url: str, asked: str) -> None:
    answer = httpx2.get(content_url, headers=HEAD | {"range": asked})
    assert (answer.status_code, answer.headers["accept-ranges"]) == (200, "bytes")
    assert answer.content == DATA


def test_broken_download_goes_on_by_if_range_and_starts_anew_for_other_bytes(content_url: str) -> None:
    etag = httpx2.get(content_url, headers=HEAD).headers["etag"]
    assert etag.startswith('"')
    going_on = httpx2.get(content_url, headers=HEAD | {"range": "bytes=9999990-", "if-range": etag})
    assert (going_on.status_code, going_on.content) == (206, DATA[9_999_990:])
    for other in ('"0"', "Wed, 21 Oct 2026 07:28:00 GMT", f"W/{etag}"):
        anew = httpx2.get(content_url, headers=HEAD | {"range": "bytes=9999990-", "if-range": other})
        assert (anew.status_code, len(anew.content)) == (200, len(DATA))


def test_head_tells_length_and_tag_without_the_bytes(content_url: str) -> None:
    answer = httpx2.head(content_url, headers=HEAD)
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, str(len(DATA)), b"")
    assert answer.headers["etag"] == httpx2.get(content_url, headers=HEAD).headers["etag"]
    assert httpx2.head(content_url).status_code == 401
    assert httpx2.head(content_url.replace("/file-", "/file-0"), headers=HEAD).status_code == 404


@pytest.mark.parametrize("path", ["/v1", "/openai", "/openai/v1"])
def test_results_are_plain_csv(url: str, openai_client: OpenAI, supervisor: Supervisor, path: str) -> None:
    file = openai_client.files.create(file=("a.jsonl", rows.good()), purpose="fine-tune")
    job = openai_client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
    for _ in range(4):
        supervisor.tick()
    (results,) = openai_client.fine_tuning.jobs.retrieve(job.id).result_files
    answer = httpx2.get(f"{url}{path}/files/{results}/content?api-version=2024-10-21", headers=HEAD)
    assert answer.headers["content-type"].split(";")[0] == "text/csv"
    assert answer.text.startswith("step,")
    assert httpx2.get(f"{url}/v1/files/{file.id}/content", headers=HEAD).headers["content-type"] == (
        "application/octet-stream"
    )
