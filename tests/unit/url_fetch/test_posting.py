"""What the guarded fetcher posts: judged as what it fetches, one answer and no redirect."""

import json
import threading
import time
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from luthier.core.errors import InvalidRequest, Unavailable
from luthier.url_fetch import retry_after
from luthier.url_fetch.address_policy import Allowed
from luthier.url_fetch.fetcher import MAX_ANSWER_BYTES, GuardedFetcher
from servers import LOOPBACK, certificate, serving

BODY = json.dumps({"object": "event"}).encode()


def plain() -> GuardedFetcher:
    return GuardedFetcher(LOOPBACK, allow_http=True, resolve=lambda host, port: ["127.0.0.1"])


def answers(status: int, body: bytes = b"", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        received.append((request.command, request.path, request.rfile.read(int(request.headers["content-length"]))))
        request.send_response(status)
        for name, value in ({"content_length": str(len(body))} | headers).items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    received: list[tuple[str, str, bytes]] = []
    answer.received = received  # type: ignore[attr-defined]
    return answer


@pytest.mark.parametrize("status", [200, 204, 301, 307, 404, 410, 500, 503])
def test_status_of_the_one_answer_is_told_whatever_it_is(status: int) -> None:
    answer = answers(status, location="http://name.example:1/elsewhere", retry_after="17")
    with serving(answer) as port:
        told = plain().post(f"http://name.example:{port}/a?b=c%2Fd", BODY, {"x-mine": "1"}, 20)
    assert (told.status, told.retry_after_s) == (status, 17.0)
    assert answer.received == [("POST", "/a?b=c%2Fd", BODY)]  # type: ignore[attr-defined]


def test_long_answer_is_not_read_to_its_end_and_a_torn_one_has_its_status() -> None:
    with serving(answers(200, b"x" * 50 * MAX_ANSWER_BYTES)) as port:
        assert plain().post(f"http://name.example:{port}/", BODY, {}, 20).status == 200
    with serving(answers(202, b"torn", content_length="9")) as port:
        assert plain().post(f"http://name.example:{port}/", BODY, {}, 20).status == 202


def test_receiver_without_an_answer_in_time_is_unavailable() -> None:
    go_on = threading.Event()
    with serving(lambda request: go_on.wait(20) and None) as port:
        began = time.monotonic()
        with pytest.raises(Unavailable, match="too slow"):
            plain().post(f"http://name.example:{port}/", BODY, {}, 0.3)
        assert time.monotonic() - began < 8
        go_on.set()
    with pytest.raises(Unavailable, match="connection failed"):
        plain().post("http://name.example:1/", BODY, {}, 20)


def test_address_that_is_not_public_is_refused_at_the_check_and_at_the_post() -> None:
    inside = GuardedFetcher(Allowed(), resolve=lambda host, port: ["1.1.1.1", "10.0.0.1"])
    nowhere = GuardedFetcher(Allowed(), resolve=lambda host, port: [])
    for fetcher in (inside, nowhere):
        url = "https://name.example/"
        for call in (partial(fetcher.check_host, url, 5), partial(fetcher.post, url, BODY, {}, 5)):
            with pytest.raises(InvalidRequest, match="public addresses") as caught:
                call()
            assert caught.value.code == "url_not_allowed"
    GuardedFetcher(Allowed(), resolve=lambda host, port: ["1.1.1.1"]).check_host("https://name.example/", 5)


def test_slow_lookup_ends_the_check_with_its_time() -> None:
    is_over = threading.Event()
    fetcher = GuardedFetcher(Allowed(), resolve=lambda host, port: [str(is_over.wait(20))])
    with pytest.raises(Unavailable, match="too slow"):
        fetcher.check_host("https://name.example/", 0.2)
    is_over.set()


def test_certificate_that_is_not_the_receivers_gets_nothing(tmp_path: Path) -> None:
    tls, client = certificate(tmp_path, "name.example")
    fetcher = GuardedFetcher(LOOPBACK, resolve=lambda host, port: ["127.0.0.1"], tls=client)
    answer = answers(200)
    with serving(answer, tls) as port:
        assert fetcher.post(f"https://name.example:{port}/", BODY, {}, 20).status == 200
        with pytest.raises(InvalidRequest, match="certificate"):
            fetcher.post(f"https://other.example:{port}/", BODY, {}, 20)
    assert len(answer.received) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        (b"120", 120, 120),
        (b"", 0, 0),
        (b"soon", 0, 0),
        (b"-5", 0, 0),
        (b"9" * 500, 999_999_999, 999_999_999),
        (b"Fri, 31 Dec 2100 23:59:59 GMT", 10**9, 10**10),
        (b"Fri, 31 Dec 1999 23:59:59 GMT", 0, 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: bytes, low: float, high: float) -> None:
    assert low <= retry_after.seconds([(b"Other", b"1"), (b"RETRY-AFTER", text)]) <= high
