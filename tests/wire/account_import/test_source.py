"""What a source may do wrong: refuse, not answer, ask to wait, change, tell on for ever, send text of another kind."""

import base64
import time
from functools import partial
from pathlib import Path

import pytest
from openai import OpenAI

import openai_account as fake
import rows
from elsewhere import RunImport
from luthier.account_import import account_address, job_archive, source_account, source_records
from luthier.account_import.account_address import SourceDialect
from luthier.account_import.import_plan import ImportOptions
from luthier.account_import.source_account import Source
from luthier.core.errors import (
    Forbidden,
    InvalidRequest,
    LuthierError,
    RateLimited,
    Unauthenticated,
    Unavailable,
    UpstreamFailed,
)
from openai_account import Answer, FakeAccount

OPENAI, AZURE, AZURE_V1 = SourceDialect.OPENAI, SourceDialect.AZURE, SourceDialect.AZURE_V1
OF_OPENAI, OF_AZURE, OWN = "OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "LUTHIER_SOURCE_API_KEY"
RESOURCE = "https://a.openai.azure.com"


@pytest.mark.parametrize(
    ("url", "version", "dialect", "base_url", "variable"),
    [
        ("https://api.openai.com/v1", None, OPENAI, "https://api.openai.com/v1", OF_OPENAI),
        ("https://api.openai.com/", None, OPENAI, "https://api.openai.com/v1", OF_OPENAI),
        ("https://eu.api.openai.com/v1/", None, OPENAI, "https://eu.api.openai.com/v1", OF_OPENAI),
        (RESOURCE, None, AZURE_V1, f"{RESOURCE}/openai/v1", OF_AZURE),
        (f"{RESOURCE}/openai/v1/", "preview", AZURE_V1, f"{RESOURCE}/openai/v1", OF_AZURE),
        (f"{RESOURCE}/", "2024-10-21", AZURE, RESOURCE, OF_AZURE),
        (f"{RESOURCE}/openai?api-version=2024-10-21", None, AZURE, RESOURCE, OF_AZURE),
        ("https://a.services.ai.azure.com", "2024-10-21", AZURE, "https://a.services.ai.azure.com", OF_AZURE),
        ("https://api.openai.com.evil.example/v1", None, OPENAI, "https://api.openai.com.evil.example/v1", OWN),
        ("https://evilopenai.azure.com.example/v1", None, OPENAI, "https://evilopenai.azure.com.example/v1", OWN),
        ("http://127.0.0.1:8001", None, OPENAI, "http://127.0.0.1:8001/v1", OWN),
        ("http://127.0.0.1:8001", "2024-10-21", AZURE, "http://127.0.0.1:8001", OWN),
        ("https://gateway.example/team/v1", None, OPENAI, "https://gateway.example/team/v1", OWN),
    ],
)
def test_address_tells_dialect_base_and_whose_key_it_is(
    url: str, version: str | None, dialect: SourceDialect, base_url: str, variable: str
) -> None:
    found = account_address.parse(url, version)
    assert (found.dialect, found.base_url, found.key_variables[-1]) == (dialect, base_url, variable)


@pytest.mark.parametrize(
    ("url", "version", "words"),
    [
        ("api.openai.com", None, "is not the address"),
        ("ftp://api.openai.com", None, "is not the address"),
        ("http://[::1", None, "is not the address"),
        ("https://host:99999/v1", None, "is not the address"),
        ("https://me:sk-secret@api.openai.com/v1", None, "Leave the key out"),
        ("https://api.openai.com/v1", "2024-10-21", "leave it out here"),
        ("https://a.openai.azure.com/openai/v1", "2024-10-21", "leave one of the two out"),
        ("https://a.openai.azure.com/openai/deployments/x", None, "only its endpoint"),
    ],
)
def test_address_that_is_none_is_refused_with_the_way_out(url: str, version: str | None, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        account_address.parse(url, version)
    assert "sk-secret" not in caught.value.message


def test_source_refuses_to_send_anything_but_get(account: FakeAccount) -> None:
    with source_account.opened(account_address.parse(account.url), fake.KEY, max_retries=0) as opened:
        api: OpenAI = opened._client
        for send in (
            lambda: api.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune"),
            lambda: api.files.delete("file-train"),
            lambda: api.fine_tuning.jobs.cancel("ftjob-done"),
        ):
            with pytest.raises(Forbidden, match="only reads from the source"):
                send()
    assert account.asked == []


def test_key_does_not_follow_a_redirect_to_another_server(account: FakeAccount, tmp_path: Path) -> None:
    other = FakeAccount()
    away = {"location": f"{other.url}/files/file-train/content"}
    account.before = lambda method, path: (302, away, b"") if path.endswith("/content") else None
    address = account_address.parse(account.url)
    with source_account.opened(address, fake.KEY, max_retries=0) as opened, pytest.raises(LuthierError):
        opened.download("file-train", tmp_path / "part", 10_000, lambda n_bytes: None)
    assert other.asked == [("GET", "/v1/files/file-train/content")]
    assert other.keys == {""}
    other.close()


def test_wrong_key_is_named_without_the_sources_own_words(account: FakeAccount, run_import: RunImport) -> None:
    with pytest.raises(Unauthenticated, match="refuses the key") as caught:
        run_import(account.url, "sk-wrong")
    assert "sk-" not in caught.value.message


def test_source_that_does_not_answer_is_named(run_import: RunImport) -> None:
    with pytest.raises(Unavailable, match=r"No answer from 127\.0\.0\.1:9\b"):
        run_import("http://127.0.0.1:9/v1", "k")


def _always(answer: Answer, method: str, path: str) -> Answer:
    return answer


def test_source_that_speaks_something_else_is_named(account: FakeAccount, run_import: RunImport) -> None:
    for kind, content in (("text/html", b"<html>"), ("application/json", b"[]"), ("application/json", b'{"data": 3}')):
        account.before = partial(_always, (200, {"content-type": kind}, content))
        with pytest.raises(UpstreamFailed, match="does not speak OpenAI's API"):
            run_import(account.url, fake.KEY)


def test_source_that_asks_to_wait_is_waited_for(account: FakeAccount, run_import: RunImport) -> None:
    told = iter([fake.error(429, "slow down", {"retry-after": "1"})])
    account.before = lambda method, path: next(told, None) if path.endswith("/content") else None
    began = time.monotonic()
    _, outcome = run_import(account.url, fake.KEY)
    assert list(outcome.files) == ["file-train"]
    assert time.monotonic() - began >= 1


def test_source_that_asks_to_wait_again_and_again_ends_the_run_and_the_next_goes_on(
    account: FakeAccount, run_import: RunImport
) -> None:
    account.before = lambda method, path: (
        fake.error(429, "no quota", {"retry-after": "0.01"}) if path.endswith("/events") else None
    )
    with pytest.raises(RateLimited, match="it continues where it stopped"):
        run_import(account.url, fake.KEY)
    account.before = lambda method, path: None
    made, outcome = run_import(account.url, fake.KEY)
    assert (outcome.files, sorted(outcome.archived)) == ({}, ["ftjob-done", "ftjob-gone", "ftjob-rft"])
    assert [plan.target_id for plan in made.files if plan.file.id == "file-train"] != [None]


@pytest.mark.parametrize(("content", "words"), [(rows.good(11), "sent with"), (rows.good(13), "sends more than")])
def test_file_that_changes_its_length_stays_and_the_rest_goes_on(
    account: FakeAccount, run_import: RunImport, openai_client: OpenAI, content: bytes, words: str
) -> None:
    account.contents["file-train"] = content
    _, outcome = run_import(account.url, fake.KEY, ImportOptions(recreate=True))
    assert [left.id for left in outcome.skipped] == ["file-train", "ftjob-done"]
    assert words in outcome.skipped[0].reason
    assert len(outcome.archived) == 3
    assert list(openai_client.files.list()) == []


def test_download_that_breaks_off_is_tried_again(account: FakeAccount, run_import: RunImport) -> None:
    whole = account.contents["file-train"]
    short = iter([(200, {"content-length": str(len(whole))}, whole[:100])])

    def broken(method: str, path: str) -> Answer | None:
        return next(short, None) if path.endswith("file-train/content") else None

    account.before = broken
    _, outcome = run_import(account.url, fake.KEY)
    assert (outcome.skipped, list(outcome.files)) == ([], ["file-train"])


def test_result_file_that_fails_is_tried_again_and_one_that_is_gone_is_not(
    account: FakeAccount, run_import: RunImport
) -> None:
    account.before = lambda method, path: fake.error(400, "not now") if "file-results" in path else None
    _, outcome = run_import(account.url, fake.KEY)
    assert ["not now; the next run tries again" in left.reason for left in outcome.skipped] == [True]
    account.before = lambda method, path: None
    del account.contents["file-results"]
    _, outcome = run_import(account.url, fake.KEY)
    assert outcome.archived == ["ftjob-done"]
    assert ["no longer has it (404)" in left.reason for left in outcome.skipped] == [True]
    made, _ = run_import(account.url, fake.KEY)
    assert made.is_empty


def test_lists_that_tell_the_same_again_or_no_end_stop(account: FakeAccount) -> None:
    account.files = [account.files[-1] | {"id": f"file-{number}"} for number in range(3)]
    address = account_address.parse(account.url)
    with source_account.opened(address, fake.KEY, max_retries=0) as opened:
        same = b'{"object": "list", "data": [{"id": "file-1"}, {"id": "file-2"}]}'
        account.before = lambda method, path: (200, {"content-type": "application/json"}, same)
        assert [told["id"] for told in opened.files()] == ["file-1", "file-2"]
        assert len(account.asked) == 2
        numbers = iter(range(10**9))

        def endless(method: str, path: str) -> Answer:
            told = f'{{"data": [{{"id": "file-{next(numbers)}"}}], "has_more": true}}'
            return 200, {"content-type": "application/json"}, told.encode()

        account.before = endless
        with pytest.raises(UpstreamFailed, match="without an end"):
            Source(opened._client, address, max_listed=20).files()
        assert next(numbers) < 30


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "", ".hidden", "a\n", None, 3])
def test_id_that_could_be_a_path_is_refused(name: object) -> None:
    with pytest.raises(UpstreamFailed, match="sent an invalid id"):
        source_records.parse_file({"id": name, "filename": "a"})
    with pytest.raises(UpstreamFailed, match="sent an invalid id"):
        source_records.parse_job(fake.job("ftjob-1", result_files=[name]))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (base64.b64encode(fake.RESULTS), fake.RESULTS),
        (base64.encodebytes(fake.RESULTS), fake.RESULTS),
        (fake.RESULTS, fake.RESULTS),
        (b"step\n", b"step\n"),
        (b"abcd", b"abcd"),
        (b"", b""),
        (b"\xff\xfe", b"\xff\xfe"),
    ],
)
def test_results_become_plain_csv(content: bytes, expected: bytes) -> None:
    assert job_archive.plain_csv(content) == expected
