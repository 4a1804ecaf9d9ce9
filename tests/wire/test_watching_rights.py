"""Streams of events of callers whose right to read ends while they watch, and of many who watch the same."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx2
import pytest
from openai import APIError, OpenAI, Stream

import rows
from asgi_switch import Switch
from fakes import BASE, KEY, engine_calls
from luthier.api import server
from luthier.api.services import Services
from luthier.api.streaming.event_feed import EventFeed
from luthier.core.models import Principal
from luthier.core.roles import Role
from luthier.service.context import Context
from luthier.service.jobs import jobs
from luthier.service.models.serving import Serving
from luthier.service.tenants import keys
from luthier.store.queries import resources


@pytest.fixture
def job_id(openai_client: OpenAI) -> str:
    file = openai_client.files.create(file=("rows.jsonl", rows.good()), purpose="fine-tune")
    return openai_client.fine_tuning.jobs.create(training_file=file.id, model=BASE).id


@contextmanager
def watched(url: str, job_id: str, key: str, prefix: str = "/v1") -> Iterator[Iterator[Any]]:
    """The stream's data, one by one; the event of the job's creation has been read."""
    address = f"{url}{prefix}/fine_tuning/jobs/{job_id}/events?stream=true"
    with httpx2.stream("GET", address, headers={"api-key": key}, timeout=30) as answer:
        data = (line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: "))
        assert json.loads(next(data))["object"] == "fine_tuning.job.event"
        yield data


def revoke(context: Context, resource_id: str, key: str) -> None:
    keys.revoke(context, resource_id, "watcher")


def regenerate(context: Context, resource_id: str, key: str) -> None:
    keys.regenerate(context, resource_id, "watcher")


def demote(context: Context, resource_id: str, key: str) -> None:
    """Gives the key a role that may not read jobs."""
    with context.database.writing() as tx:
        resources.delete_key(tx, resource_id, "watcher")
        resources.insert_key(tx, keys.hash_key(key), resource_id, "watcher", context.now(), Role.USAGES_READER)


@pytest.mark.parametrize("prefix", ["/v1", "/openai/v1"])
@pytest.mark.parametrize(
    ("take_away", "words"), [(revoke, "Access denied"), (regenerate, "Access denied"), (demote, "Forbidden")]
)
def test_stream_of_a_key_that_may_not_read_any_more_ends_with_an_error(
    url: str, context: Context, caller: Principal, job_id: str, take_away: Any, words: str, prefix: str
) -> None:
    key = keys.create(context, caller.resource.id, "watcher", Role.OWNER)
    with watched(url, job_id, key, prefix) as data, watched(url, job_id, KEY) as of_another_key:
        take_away(context, caller.resource.id, key)
        [last] = data
        jobs.cancel(context, caller.resource.id, job_id)  # nothing of this is for the first stream
        assert [json.loads(text)["message"] for text in of_another_key if text != "[DONE]"] == ["Job cancelled."]
    assert words in json.loads(last)["error"]["message"]
    assert key not in last


def test_sdk_reads_the_end_of_its_right_as_an_error(url: str, context: Context, caller: Principal, job_id: str) -> None:
    key = keys.create(context, caller.resource.id, "watcher", Role.OWNER)
    with OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
        answer = client.get(
            f"/fine_tuning/jobs/{job_id}/events?stream=true", cast_to=object, stream=True, stream_cls=Stream[object]
        )
        next(answer)
        revoke(context, caller.resource.id, key)
        with pytest.raises(APIError, match="Access denied"):
            list(answer)


def test_streams_of_a_service_that_stops_end_with_an_error_and_new_ones_at_once(
    url: str, switch: tuple[Switch, str], context: Context, serving: Serving, job_id: str
) -> None:
    feed = EventFeed(poll_s=0.05)
    app = server.build(Services(context, serving, lambda: None, event_feed=feed, calls=engine_calls()), None)

    async def closing(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/close":  # on the event loop, where the server calls it
            feed.close()
            scope = {**scope, "path": "/healthz"}
        await app(scope, receive, send)

    switch[0].app = closing
    with watched(url, job_id, KEY) as data:
        assert httpx2.get(f"{url}/close").status_code == 200
        [last] = data
    assert json.loads(last)["error"]["code"] == "service_stopping"
    late = httpx2.get(f"{url}/v1/fine_tuning/jobs/{job_id}/events?stream=true", headers={"api-key": KEY}, timeout=30)
    assert "service_stopping" in late.text


def test_many_streams_of_one_job_all_get_its_next_event_and_its_end(
    url: str, context: Context, caller: Principal, job_id: str
) -> None:
    ready = threading.Barrier(61)

    def watch() -> list[str]:
        with watched(url, job_id, KEY) as data:
            ready.wait(60)
            return [text if text == "[DONE]" else json.loads(text)["message"] for text in data]

    with ThreadPoolExecutor(60) as pool:
        all_watching = [pool.submit(watch) for _ in range(60)]
        ready.wait(60)
        jobs.cancel(context, caller.resource.id, job_id)
        assert {tuple(one.result(60)) for one in all_watching} == {("Job cancelled.", "[DONE]")}


def test_health_is_answered_while_every_writer_waits(
    url: str, context: Context, caller: Principal, job_id: str
) -> None:
    address = f"{url}/v1/fine_tuning/jobs/{job_id}/cancel"
    with ThreadPoolExecutor(60) as pool:
        with context.database.writing():
            waiting = [pool.submit(httpx2.post, address, headers={"api-key": KEY}, timeout=60) for _ in range(60)]
            for path in ("/healthz", "/readyz", "/v1/files"):
                assert httpx2.get(url + path, headers={"api-key": KEY}, timeout=20).status_code == 200
            assert not any(one.done() for one in waiting)
        assert sorted(one.result(60).status_code for one in waiting) == [200] + 59 * [409]
