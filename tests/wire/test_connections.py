"""Connections: so many in all and of one address, none that stops half-way, and an answer when there is no room."""

import asyncio
import errno
import json
import logging
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

import peers
from authority import Authority
from luthier.api.http import connection_limits, listening
from luthier.api.http.connection_limits import ConnectionGate, Limits
from luthier.api.http.listening import DescriptorReserve
from luthier.api.http.log_limit import LINES, PERIOD_S, LogLimit
from luthier.api.http.tls import Certificate

Serve = Callable[..., AbstractContextManager[str]]
WHOLE = peers.head("GET", "/")
HALF = b"GET / HTTP/1.1\r\nhost: luthier\r\nx-more: "
LONG = 24 * 2**20


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers in a word; `/wait` once it has the body; `/long` with more than any buffer on the way holds.

    `/never` never ends, `/events` neither, after a first event.
    """
    path = scope["path"]
    if path == "/events":
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    if path in ("/events", "/never"):
        await asyncio.Event().wait()
    if path == "/wait":
        while (await receive()).get("more_body", False):
            pass
    length = LONG if path == "/long" else 5
    headers = [(b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while path == "/long" and length > 5:
        chunk = bytes(min(2**16, length - 5))
        length -= len(chunk)
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture(params=["http", "https"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Serve:
    """A server with limits of its own, in the clear and with TLS: they hold the same."""
    if request.param == "http":
        return peers.served
    pair = Authority(tmp_path).make()
    return partial(peers.served, certificate=Certificate(pair.cert, pair.key))


def test_half_a_head_is_answered_408_in_time_and_silence_is_closed(serve: Serve) -> None:
    with (
        serve(application, Limits(head_s=0.3)) as url,
        peers.asking(url, HALF) as half,
        peers.connect(url) as silent,
    ):
        status, headers, body = peers.answer(half)
        assert (status, headers["connection"]) == (408, "close")
        assert b"headers did not arrive in time" in body
        assert peers.is_closed(half)
        assert peers.is_closed(silent)


def test_half_a_second_head_is_cut_too_and_idle_connections_end(serve: Serve) -> None:
    with serve(application, Limits(head_s=0.3, idle_s=1)) as url, peers.asking(url, WHOLE) as idle:
        assert peers.answer(idle)[2] == b"hello"
        with peers.asking(url, WHOLE) as second:
            assert peers.answer(second)[2] == b"hello"
            second.sendall(HALF)
            assert peers.answer(second)[0] == 408
        assert peers.is_closed(idle)


@pytest.mark.parametrize("limits", [Limits(per_address=4), Limits(connections=4)], ids=["of one address", "in all"])
def test_half_heads_beyond_the_limit_make_room_for_whoever_comes(serve: Serve, limits: Limits) -> None:
    with serve(application, limits) as url, ExitStack() as open_ones:
        halves = [open_ones.enter_context(peers.asking(url, HALF)) for _ in range(12)]
        for _ in range(3):
            with peers.asking(url, WHOLE) as whole:
                assert peers.answer(whole)[0] == 200
        assert peers.is_closed(halves[0])


@pytest.mark.parametrize("limits", [Limits(per_address=2), Limits(connections=2)], ids=["of one address", "in all"])
def test_connection_beyond_those_at_work_is_answered_503_and_comes_in_later(serve: Serve, limits: Limits) -> None:
    wait = peers.head("POST", "/wait", content_length=5)
    with serve(application, limits) as url, peers.asking(url, wait) as first, peers.asking(url, wait):
        time.sleep(0.2)  # their heads are read in turn, and by then the two are at work
        with peers.asking(url, WHOLE) as refused:
            status, headers, body = peers.answer(refused)
        assert (status, headers["connection"], headers["retry-after"]) == (503, "close", "5")
        assert b"Too many connections" in body
        first.sendall(b"12345")
        assert peers.answer(first)[0] == 200
        with peers.asking(url, WHOLE) as later:  # in the place of the first, which waits for another request
            assert peers.answer(later)[0] == 200


def test_answer_that_nobody_reads_is_cut(serve: Serve) -> None:
    with serve(application, Limits(write_s=0.5)) as url, peers.asking(url, peers.head("GET", "/long")) as peer:
        time.sleep(2.5)
        assert _received(peer) < LONG


def test_answer_that_is_read_slowly_is_not_cut(serve: Serve) -> None:
    with serve(application, Limits(write_s=0.6)) as url, peers.asking(url, peers.head("GET", "/long")) as peer:
        count = 0
        for _ in range(20):
            count += len(peer.recv(2**16))
            time.sleep(0.1)
        assert count + _received(peer) > LONG


def test_stop_waits_for_no_body_that_is_still_on_its_way(serve: Serve) -> None:
    began = time.monotonic()
    with ExitStack() as open_ones:
        with serve(application, Limits(), grace_s=30) as url:
            upload = open_ones.enter_context(peers.asking(url, peers.head("POST", "/wait", content_length=100) + b"x"))
            other = open_ones.enter_context(peers.asking(url, WHOLE))
            assert peers.answer(other)[2] == b"hello"
        assert time.monotonic() - began < 10
        status, headers, body = peers.answer(upload)
    assert (status, headers["connection"]) == (503, "close")
    assert json.loads(body)["error"]["code"] == "service_stopping"


def test_stop_tells_whoever_waited_too_long_for_an_answer(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with ExitStack() as open_ones:
        with serve(application, Limits(), grace_s=0.2) as url:
            whole = open_ones.enter_context(peers.asking(url, peers.head("GET", "/never")))
            stream = open_ones.enter_context(peers.asking(url, peers.head("GET", "/events")))
            begun = stream.recv(4096)
            while b"data: 1" not in begun:
                begun += stream.recv(4096)
        status, headers, body = peers.answer(whole)
        assert (status, headers["retry-after"]) == (503, "5")
        assert json.loads(body)["error"]["code"] == "service_stopping"
        rest = b"".join(iter(lambda: stream.recv(4096), b""))
    assert b'data: {"error": {"code": "service_stopping"' in rest
    assert rest.endswith(b"0\r\n\r\n")
    assert "Exception in ASGI application" not in caplog.text


def test_addresses_are_counted_by_what_one_subscriber_has() -> None:
    assert connection_limits.network_of("203.0.113.7") != connection_limits.network_of("203.0.113.8")
    assert connection_limits.network_of("::ffff:203.0.113.7") == connection_limits.network_of("203.0.113.7")
    assert connection_limits.network_of("2001:db8::1") == connection_limits.network_of("2001:db8::ffff:2%eth0")
    assert connection_limits.network_of("2001:db8::1") != connection_limits.network_of("2001:db8:0:1::1")


def test_limits_fit_the_descriptors_that_there_are() -> None:
    fitted = listening.fitting(Limits(connections=4096, per_address=1024), 1024)
    assert (fitted.connections, fitted.per_address) == (512, 384)
    assert listening.fitting(Limits(per_address=0), 20_000).per_address == 0


def test_peer_that_comes_when_no_descriptor_is_left_gets_an_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def act() -> bytes:
        loop = asyncio.get_running_loop()
        reserve = DescriptorReserve(ConnectionGate(Limits()), [listener])
        reserve.install(loop)
        with socket.create_connection(listener.getsockname()) as peer:
            for _ in range(100):  # asyncio tells of each of its tries
                error = OSError(errno.EMFILE, "Too many open files")
                loop.call_exception_handler({"message": "socket.accept() out of system resource", "exception": error})
            answer = peer.recv(1000)
        reserve.close()
        return answer

    with socket.create_server(("127.0.0.1", 0)) as listener, caplog.at_level(logging.WARNING):
        listener.setblocking(False)
        assert asyncio.run(act()).startswith(b"HTTP/1.1 503 ")
    assert "no file descriptors left" in caplog.text
    assert "Traceback" not in caplog.text


def test_lines_that_peers_cause_are_few_and_the_rest_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    logger = logging.getLogger("test.peers")
    logger.addFilter(LogLimit(lambda: now))
    for _ in range(50):
        logger.warning("a peer did %s", "this")
    logger.warning("something else")
    assert len(caplog.records) == LINES + 1
    now = PERIOD_S
    logger.warning("a peer did %s", "this")
    assert caplog.messages[-1] == "a peer did this (and 45 times more in the minute before)"


def _received(peer: socket.socket) -> int:
    count = 0
    try:
        while chunk := peer.recv(2**20):
            count += len(chunk)
    except (ConnectionResetError, ssl.SSLEOFError):
        pass
    return count
