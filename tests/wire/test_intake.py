"""The key first, then the route's cap, then the body, in so many bytes and at such a pace."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

import peers
import walk
from control_plane import PATH
from fakes import BASE, KEY, engine_calls
from luthier.api import server
from luthier.api.intake import json_body
from luthier.api.intake.body_limits import BodyLimits, Intake
from luthier.api.services import Services
from luthier.core.models import Principal
from luthier.core.roles import Role
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from luthier.service.tenants import keys
from waiting import until

FORM = {"content_type": "multipart/form-data; boundary=b"}
JSON = {"content_type": "application/json"}
BEGINNING = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n{"a": 1}\n'
CHAT = "/v1/chat/completions"
JOBS = "/v1/fine_tuning/jobs"
Build = Callable[[BodyLimits], str]


@pytest.fixture
def limited(url: str, switch: tuple[Any, str], context: Context, serving: Serving) -> Build:
    """The service with limits of the test's own."""

    def build(limits: BodyLimits) -> str:
        switch[0].app = server.build(
            Services(context, serving, lambda: None, intake=Intake(limits), calls=engine_calls()), None
        )
        return url

    return build


def test_no_route_waits_for_a_body_before_it_has_looked_at_the_key(app: FastAPI, url: str) -> None:
    for call in walk.calls(app):
        with peers.asking(url, peers.head(call.method, call.path(walk.NEVER), content_length=300_000)) as peer:
            status, headers, _ = peers.answer(peer, call.method)
        assert (status, headers["connection"]) == (401, "close"), call


@pytest.mark.parametrize("sent", [{"content_length": 2**33}, {"transfer_encoding": "chunked"}])
def test_unknown_path_is_answered_before_its_body(url: str, sent: dict[str, object]) -> None:
    with peers.asking(url, peers.head("POST", "/v1/nothing/files", KEY, **sent)) as peer:
        status, headers, _ = peers.answer(peer)
        assert (status, headers["connection"]) == (404, "close")
        assert peers.is_closed(peer)


def test_key_without_the_role_is_answered_before_the_body(url: str, context: Context, caller: Principal) -> None:
    reader = keys.create(context, caller.resource.id, "reader", Role.USAGES_READER)
    with peers.asking(url, peers.head("POST", "/v1/files", reader, **FORM, content_length=2**28)) as peer:
        assert peers.answer(peer)[0] == 403


def test_long_body_without_a_key_is_answered_to_a_client_that_sends_it_whole(url: str) -> None:
    answer = httpx2.post(url + JOBS, content=b" " * (20 * 2**20))
    assert answer.status_code == 401
    assert answer.headers["connection"] == "close"


def test_short_body_of_a_refused_request_leaves_the_connection_for_the_next(url: str) -> None:
    refused = peers.head("POST", JOBS, "wrong", **JSON, content_length=2000)
    with peers.asking(url, refused) as peer:
        assert peers.answer(peer)[0] == 401
        peer.sendall(b" " * 2000 + peers.head("GET", "/v1/files", KEY))
        assert peers.answer(peer)[0] == 200


@pytest.mark.parametrize(
    "path", [f"{PATH}/files", "/openai/deployments/files/chat/completions?api-version=2024-10-21", f"{PATH}/parts"]
)
def test_deployment_called_as_a_route_gets_the_cap_of_its_own_route(url: str, path: str) -> None:
    with peers.asking(url, peers.head("POST", path, KEY, **JSON, content_length=9 * 2**20)) as peer:
        assert peers.answer(peer)[0] == 413


@pytest.mark.parametrize(("path", "length"), [(JOBS, 512 * 2**10), (CHAT, 8 * 2**20)])
def test_body_is_taken_up_to_the_routes_cap_and_no_byte_further(url: str, path: str, length: int) -> None:
    body = b'{"model": "nobody"}'
    headers = {"api-key": KEY, "content-type": "application/json"}
    for more, statuses in ((0, {400}), (1, {413})):
        answer = httpx2.post(url + path, headers=headers, content=body + b" " * (length - len(body) + more))
        assert answer.status_code in statuses, answer.text


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        (CHAT, JSON),
        ("/v1/files", FORM),
        ("/openai/files?api-version=2024-10-21", FORM),
        (f"{PATH}/ours", JSON),
    ],
)
def test_body_that_stops_is_cut_in_words_and_leaves_nothing(
    limited: Build, context: Context, path: str, sent: dict[str, object]
) -> None:
    url = limited(BodyLimits(idle_s=0.3))
    method = "PUT" if path.startswith(PATH) else "POST"
    with peers.asking(url, peers.head(method, path, KEY, **sent, content_length=10_000) + BEGINNING) as peer:
        status, headers, body = peers.answer(peer)
    assert (status, headers["x-should-retry"]) == (408, "false")
    assert b"may pause for 0.3 seconds" in body
    assert peers.stored(context.data_folder) == []


def test_body_that_trickles_is_cut_by_its_rate(limited: Build) -> None:
    url = limited(BodyLimits(idle_s=10, grace_s=0.3, min_bytes_per_s=1000))
    with peers.asking(url, peers.head("POST", "/v1/files", KEY, **FORM, content_length=10_000)) as peer:
        started = time.monotonic()
        peer.settimeout(0.02)
        while time.monotonic() - started < 15:
            try:
                assert b" 408 " in peer.recv(100)
                break
            except TimeoutError:
                peer.sendall(b"-")
        assert time.monotonic() - started < 10


def test_body_faster_than_the_rate_may_take_longer_than_the_grace(limited: Build) -> None:
    url = limited(BodyLimits(idle_s=10, grace_s=0.4, min_bytes_per_s=1000))
    end = b'\r\n--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--b--\r\n'
    form = BEGINNING + b"x" * 3000 + end
    with peers.asking(url, peers.head("POST", "/v1/files", KEY, **FORM, content_length=len(form))) as peer:
        for start in range(0, len(form), 300):
            peer.sendall(form[start : start + 300])
            time.sleep(0.08)
        assert peers.answer(peer)[0] == 200


def test_uploads_that_send_nothing_keep_no_other_route_waiting(limited: Build) -> None:
    url = limited(BodyLimits(uploads=100, uploads_per_key=100))
    head = peers.head("POST", "/v1/files", KEY, **FORM, content_length=10_000)
    with ExitStack() as open_ones:
        for _ in range(60):  # there are 40 worker threads
            open_ones.enter_context(peers.asking(url, head))
        for path in ("/healthz", "/v1/files", "/v1/models", "/openai/v1/fine_tuning/jobs"):
            assert httpx2.get(url + path, headers={"api-key": KEY}, timeout=20).status_code == 200


def test_burst_of_uploads_beyond_the_limit_of_a_key_is_taken_whole(limited: Build) -> None:
    url = limited(BodyLimits(uploads=3, uploads_per_key=2))

    def send(number: int) -> int:
        file = {"file": (f"{number}.jsonl", b"{}\n" * 10_000), "purpose": (None, "fine-tune")}
        return httpx2.post(f"{url}/v1/files", headers={"api-key": KEY}, files=file, timeout=30).status_code

    with ThreadPoolExecutor(12) as crowd:
        assert list(crowd.map(send, range(12))) == [200] * 12


def test_upload_that_waits_has_its_turn_once_another_has_ended(limited: Build) -> None:
    url = limited(BodyLimits(uploads=1, upload_wait_s=30))
    head = peers.head("POST", "/v1/files", KEY, **FORM, content_length=10)
    with ThreadPoolExecutor(1) as other, peers.asking(url, head) as first:
        first.settimeout(0.3)
        file = {"file": ("a.jsonl", b"{}\n"), "purpose": (None, "fine-tune")}
        waiting = other.submit(httpx2.post, f"{url}/v1/files", headers={"api-key": KEY}, files=file, timeout=30)
        with pytest.raises(TimeoutError):
            first.recv(1)
        assert not waiting.done()
        first.close()
        assert waiting.result().status_code == 200


def test_one_upload_too_many_is_refused_until_another_has_ended(
    limited: Build, context: Context, caller: Principal
) -> None:
    url = limited(BodyLimits(uploads=3, uploads_per_key=2, upload_wait_s=0.1))
    others = [keys.create(context, caller.resource.id, name, Role.OWNER) for name in ("second", "third")]
    head = [peers.head("POST", "/v1/files", key, **FORM, content_length=10_000) for key in (KEY, *others)]
    file = {"file": ("a.jsonl", b"{}\n"), "purpose": (None, "fine-tune")}

    def send(key: str) -> httpx2.Response:
        return httpx2.post(f"{url}/v1/files", headers={"api-key": key}, files=file)

    with peers.asking(url, head[0]):
        with peers.asking(url, head[0]):
            until(lambda: send(KEY).status_code == 429)
            refused = send(KEY)
            assert "This key has 2 uploads open" in refused.json()["error"]["message"]
            assert refused.headers["retry-after"] == "5"
            assert send(others[0]).status_code == 200
            with peers.asking(url, head[1]):
                until(lambda: send(others[1]).status_code == 429)
                assert "3 uploads are open, the most" in send(others[1]).json()["error"]["message"]
        until(lambda: send(KEY).status_code == 200)


def test_lengths_that_are_announced_and_not_sent_take_no_room(limited: Build) -> None:
    url = limited(BodyLimits(held_bytes=600_000))
    announced = peers.head("POST", CHAT, KEY, **JSON, content_length=290_000) + b"{"
    with peers.asking(url, announced), peers.asking(url, announced):
        time.sleep(0.2)
        body = b'{"model": "nobody"}'.ljust(200_000)
        headers = {"api-key": KEY, "content-type": "application/json"}
        assert httpx2.post(url + CHAT, headers=headers, content=body).status_code == 400


def test_large_bodies_are_held_up_to_a_limit_and_given_back(limited: Build) -> None:
    url = limited(BodyLimits(held_bytes=600_000))
    headers = {"api-key": KEY, "content-type": "application/json"}
    body = b'{"model": "nobody"}'.ljust(200_000)
    with peers.asking(url, peers.head("POST", CHAT, KEY, **JSON, content_length=200_000) + b"{" * 150_000):
        until(lambda: httpx2.post(url + CHAT, headers=headers, content=body).status_code == 429)
        refused = httpx2.post(url + CHAT, headers=headers, content=body)
        assert refused.json()["error"]["code"] == "too_many_bytes_at_once"
        assert httpx2.post(url + CHAT, headers=headers, content=body.strip()).status_code == 400
    until(lambda: httpx2.post(url + CHAT, headers=headers, content=body).status_code == 400)


def test_body_of_too_many_values_is_refused_and_as_many_commas_in_a_text_are_not(url: str) -> None:
    headers = {"api-key": KEY, "content-type": "application/json"}
    many = json_body.MAX_VALUES + 1
    nested = b'{"model": "nobody", "messages": [' + b"[]," * many + b"[]]}"
    refused = httpx2.post(url + CHAT, headers=headers, content=nested)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "too_many_values")
    text = {"model": "nobody", "messages": [{"role": "user", "content": ',[{\\"' * many}]}
    assert httpx2.post(url + CHAT, headers=headers, json=text).status_code == 404


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a": ' * 5000, b'"\xff"', b"1" * 5000])
def test_json_that_cannot_be_read_is_a_400_in_words(url: str, body: bytes) -> None:
    answer = httpx2.post(url + JOBS, headers={"api-key": KEY, "content-type": "application/json"}, content=body)
    assert answer.status_code in {400, 413}
    assert answer.json()["error"]["message"]


def test_thousands_of_faults_are_answered_in_a_short_list(url: str) -> None:
    body = {"model": BASE, "training_file": "file-1"} | {f"f{number}": 0 for number in range(20_000)}
    answer = httpx2.post(url + JOBS, headers={"api-key": KEY}, json=body)
    assert answer.status_code == 400
    assert len(answer.content) < 50_000
