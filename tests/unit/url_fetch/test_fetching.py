"""The guarded fetcher against servers of the test's own: addresses, redirects, names that change, caps, TLS."""

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from luthier.core.errors import InvalidRequest, LuthierError, TooLarge, Unavailable
from luthier.url_fetch.address_policy import Allowed
from luthier.url_fetch.fetcher import GuardedFetcher
from servers import LOOPBACK, certificate, redirects, sends, serving

REFUSED_ADDRESSES = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::a00:1",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:a00:1::",
    "3fff::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]
PUBLIC_ADDRESSES = ["1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.0.1", "172.32.0.1", "198.17.0.1"]
PUBLIC_ADDRESSES += ["198.20.0.1", "223.255.255.255", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e", "2003::1"]


def fetched(fetcher: GuardedFetcher, url: str, max_bytes: int = 1_000_000, max_seconds: float = 20) -> bytes:
    with fetcher.get(url, max_bytes, max_seconds) as chunks:
        return b"".join(chunks)


def plain(**more: object) -> GuardedFetcher:
    """A fetcher that may reach the test's servers by http, under any name."""
    return GuardedFetcher(LOOPBACK, allow_http=True, **({"resolve": lambda host, port: ["127.0.0.1"]} | more))


@pytest.fixture
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any connection that is tried all the same ends the test."""

    def connect(*args: object, **kwargs: object) -> socket.socket:
        raise AssertionError(f"connected to {args}")

    monkeypatch.setattr(socket, "create_connection", connect)


@pytest.mark.usefixtures("no_connection")
@pytest.mark.parametrize("address", REFUSED_ADDRESSES)
def test_address_that_is_not_public_is_refused_in_the_url_and_behind_a_name(address: str) -> None:
    host = f"[{address}]" if ":" in address else address
    fetcher = GuardedFetcher(Allowed(), resolve=lambda host, port: [address])
    for call in (fetcher.check, lambda url: fetched(fetcher, url)):
        with pytest.raises(InvalidRequest) as caught:
            call(f"https://{host}/a.jsonl")
        assert caught.value.code == "url_not_allowed"
    with pytest.raises(InvalidRequest) as caught:
        fetched(fetcher, "https://name.example/a.jsonl")
    assert caught.value.code == "url_not_allowed"
    assert address not in caught.value.message


@pytest.mark.parametrize("address", PUBLIC_ADDRESSES)
def test_public_address_is_taken(address: str) -> None:
    assert Allowed().takes("name.example", address)
    GuardedFetcher(Allowed()).check(f"https://{f'[{address}]' if ':' in address else address}/a")


@pytest.mark.usefixtures("no_connection")
@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "127.0.0.1.",
        "1.2.3.256",
        "010.0.0.1",
        "0x",
        "name.0x7f",
        "name.123",
        "%31%32%37.0.0.1",
        "①②⑦.0.0.1",
        "localhost%00.example",
        "[::1",
        "[::1%25lo]",
        "[::ffff:127.0.0.1]",
        "[0:0:0:0:0:0:0:1]",
        "[127.0.0.1]",
        "user@name.example",
        "user:word@name.example",
        "name.example@127.0.0.1",
        "name.example:443@127.0.0.1",
        "name.example:0",
        "name.example:65536",
        "name.example:8080:80",
        "",
        ".",
        ":443",
    ],
)
def test_host_in_another_form_is_refused_before_any_name_is_looked_up(host: str) -> None:
    def looked_up(host: str, port: int) -> list[str]:
        raise AssertionError(host)

    fetcher = GuardedFetcher(Allowed(), allow_http=True, resolve=looked_up)
    with pytest.raises(InvalidRequest):
        fetcher.check(f"https://{host}/a.jsonl")
    with pytest.raises(InvalidRequest):
        fetched(fetcher, f"http://{host}/a.jsonl")


@pytest.mark.parametrize(
    "url",
    [
        "http://name.example/",
        "ftp://name.example/",
        "file:///etc/passwd",
        "gopher://name.example/",
        "data:,x",
        "//name.example/",
        "name.example/a",
        "",
        "https:name.example/",
        "https:///etc/passwd",
        "https:\\\\name.example\\",
        "https://name.example\\@127.0.0.1/",
        "https://name.example/a b",
        "https://name.example/\n",
        "https://name.example/\r\nHost: x",
        "https://name.example/" + "a" * 9000,
        " https://name.example/",
    ],
)
def test_other_scheme_or_form_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        GuardedFetcher(Allowed()).check(url)


def test_body_comes_whole_with_the_name_as_host_and_nothing_of_ours() -> None:
    seen: list[BaseHTTPRequestHandler] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        seen.append(request)
        sends(b"rows" * 100_000)(request)

    query = "sv=2024-11-04&sig=a%2Bb%2fC%3D&se=2026-11-22T00%3A00%3A00Z&X-Amz-Credential=K/2026/s3&e=&&~'"
    with serving(answer) as port:
        assert fetched(plain(), f"http://name.example:{port}/c/%C3%A4//../a.jsonl?{query}#part") == b"rows" * 100_000
    assert seen[0].path == f"/c/%C3%A4//../a.jsonl?{query}"
    assert seen[0].headers["host"] == f"name.example:{port}"
    assert {"authorization", "cookie", "referer", "api-key"}.isdisjoint(name.lower() for name in seen[0].headers)


def test_name_is_resolved_once_and_the_connection_goes_to_that_answer() -> None:
    """DNS rebinding: a second look-up would give another address."""
    answers = iter([["127.0.0.1"], ["127.0.0.2"]])
    with serving(sends(b"rows")) as port:
        assert fetched(plain(resolve=lambda host, port: next(answers)), f"http://name.example:{port}/") == b"rows"
    assert next(answers) == ["127.0.0.2"]


@pytest.mark.usefixtures("no_connection")
@pytest.mark.parametrize(
    "found", [["8.8.8.8", "10.0.0.1"], ["10.0.0.1", "8.8.8.8"], ["2606:4700::1", "::1"], [], ["no address"]]
)
def test_answer_with_one_inner_address_is_refused_whole(found: list[str]) -> None:
    with pytest.raises(InvalidRequest, match="public addresses alone"):
        fetched(GuardedFetcher(Allowed(), resolve=lambda host, port: found), "https://name.example/")


def test_unknown_name_and_inner_name_are_told_alike() -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror("no such name")

    told = set()
    for resolve in (unknown, lambda host, port: ["10.0.0.1"]):
        with pytest.raises(InvalidRequest) as caught:
            fetched(GuardedFetcher(Allowed(), resolve=resolve), "https://name.example/")
        told.add((caught.value.code, caught.value.message))
    assert len(told) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://[::1]/",
        "http://2130706434/",
        "//inner.example/",
        "file:///etc/passwd",
        "http://user:word@name.example/",
        "",
    ],
)
def test_redirect_is_judged_like_a_first_url(status: int, location: str) -> None:
    addresses = {"name.example": ["127.0.0.1"], "inner.example": ["192.168.0.1"]}
    fetcher = plain(resolve=lambda host, port: addresses[host])
    with serving(redirects(status, location)) as port, pytest.raises(InvalidRequest):
        fetched(fetcher, f"http://name.example:{port}/")


def test_redirects_are_followed_by_name_path_and_query_and_end_after_five() -> None:
    def counted(request: BaseHTTPRequestHandler) -> None:
        left = int(request.path.rpartition("=")[2])
        if left:
            redirects(307, f"/next?left={left - 1}")(request)
        else:
            sends(b"rows")(request)

    with serving(counted) as port:
        assert fetched(plain(), f"http://name.example:{port}/?left=5") == b"rows"
        with pytest.raises(InvalidRequest, match="more than 5 times"):
            fetched(plain(), f"http://name.example:{port}/?left=6")


def test_redirect_from_https_to_http_is_refused(tmp_path: Path) -> None:
    server, client = certificate(tmp_path, "name.example")
    fetcher = GuardedFetcher(LOOPBACK, resolve=lambda host, port: ["127.0.0.1"], tls=client)
    with (
        serving(redirects(302, "http://name.example/"), server) as port,
        pytest.raises(InvalidRequest, match="scheme must be https"),
    ):
        fetched(fetcher, f"https://name.example:{port}/")


def test_body_over_the_cap_is_refused_by_its_length_and_by_its_bytes() -> None:
    sent = 0

    def endless(request: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        request.send_response(200)
        request.end_headers()
        while sent < 10**9:
            request.wfile.write(b"x" * 65_536)
            sent += 65_536

    for answer in (sends(b"", content_length=str(10**12)), endless):
        with serving(answer) as port, pytest.raises(TooLarge):
            fetched(plain(), f"http://name.example:{port}/", max_bytes=1_000_000)
    assert sent < 50_000_000


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
def test_compressed_answer_is_refused_and_never_unpacked(encoding: str) -> None:
    bomb = gzip.compress(b"\0" * 10_000_000)
    with serving(sends(bomb, content_encoding=encoding)) as port, pytest.raises(InvalidRequest, match="compressed"):
        fetched(plain(), f"http://name.example:{port}/")


def slow_body(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("content-length", "1000")
    request.end_headers()
    drip(request)


def slow_headers(request: BaseHTTPRequestHandler) -> None:
    request.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    drip(request)


def drip(request: BaseHTTPRequestHandler) -> None:
    for _ in range(200):
        request.wfile.write(b"x")
        time.sleep(0.05)


def silent(request: BaseHTTPRequestHandler) -> None:
    time.sleep(3)


@pytest.mark.parametrize(("answer", "idle"), [(slow_body, 20.0), (slow_headers, 20.0), (silent, 0.3)])
def test_slow_answer_ends_with_the_time_that_it_may_take(
    answer: Callable[[BaseHTTPRequestHandler], None], idle: float
) -> None:
    began = time.monotonic()
    with serving(answer) as port, pytest.raises(Unavailable, match="too slow"):
        fetched(plain(idle_seconds=idle), f"http://name.example:{port}/", max_seconds=0.8 if idle > 1 else 20)
    assert time.monotonic() - began < 8


@pytest.mark.parametrize(("max_seconds", "idle"), [(0.3, 20.0), (20.0, 0.3)])
def test_slow_lookup_of_the_name_ends_with_the_time_that_it_may_take(max_seconds: float, idle: float) -> None:
    is_over = threading.Event()

    def slow(host: str, port: int) -> list[str]:
        is_over.wait(20)
        return ["127.0.0.1"]

    began = time.monotonic()
    with pytest.raises(Unavailable, match="too slow"):
        fetched(plain(resolve=slow, idle_seconds=idle), "http://name.example/", max_seconds=max_seconds)
    assert time.monotonic() - began < 8
    is_over.set()


def test_answer_that_breaks_off_is_no_file() -> None:
    with serving(sends(b"half", content_length="8")) as port, pytest.raises(Unavailable, match="connection failed"):
        fetched(plain(), f"http://name.example:{port}/")


@pytest.mark.parametrize("status", [204, 206, 304, 401, 403, 404, 500])
def test_other_status_is_told_by_its_number_alone(status: int) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status, "inner words")
        request.send_header("x-inner", "inner words")
        request.send_header("content-length", "0" if status in {204, 304} else "11")
        request.end_headers()
        if status not in {204, 304}:
            request.wfile.write(b"inner words")

    with serving(answer) as port, pytest.raises(InvalidRequest) as caught:
        fetched(plain(), f"http://name.example:{port}/secret-path?sig=secret")
    assert str(status) in caught.value.message
    assert "inner words" not in caught.value.message
    assert "secret" not in caught.value.message


def test_tls_is_for_the_name_and_the_connection_for_the_address(tmp_path: Path) -> None:
    names: list[str | None] = []
    server, client = certificate(tmp_path, "name.example")
    server.sni_callback = lambda _socket, name, _context: names.append(name)
    fetcher = GuardedFetcher(LOOPBACK, resolve=lambda host, port: ["127.0.0.1"], tls=client)
    with serving(sends(b"rows"), server) as port:
        assert fetched(fetcher, f"https://name.example:{port}/") == b"rows"
        assert names == ["name.example"]
        with pytest.raises(InvalidRequest, match="certificate of other"):
            fetched(fetcher, f"https://other.example:{port}/")
        stranger = GuardedFetcher(LOOPBACK, resolve=lambda host, port: ["127.0.0.1"])
        with pytest.raises(InvalidRequest, match="certificate of name"):
            fetched(stranger, f"https://name.example:{port}/")


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"])
def test_proxy_of_the_environment_is_not_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving(sends(b"rows")) as port:
        assert fetched(plain(), f"http://name.example:{port}/") == b"rows"


def test_closed_port_and_what_is_no_http_are_told_without_inner_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    def rude(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(b"SSH-2.0-inner\r\n\r\n")

    def told(port: int) -> LuthierError:
        with pytest.raises(Unavailable) as caught:
            fetched(plain(), f"http://name.example:{port}/")
        return caught.value

    with serving(rude) as rude_port:
        assert told(port).message == told(rude_port).message


def test_error_of_the_one_who_reads_stays_its_own() -> None:
    def read() -> Iterator[bytes]:
        with serving(sends(b"rows")) as port, plain().get(f"http://name.example:{port}/", 100, 10) as chunks:
            yield from chunks
            raise OSError("the reader's own disk")

    with pytest.raises(OSError, match="the reader's own disk"):
        list(read())


@pytest.mark.parametrize(
    ("text", "host", "address", "taken"),
    [
        ("10.1.0.0/16", "name.example", "10.1.2.3", True),
        ("10.1.0.0/16", "name.example", "10.2.0.1", False),
        ("10.1.0.0/16", "name.example", "::ffff:10.1.2.3", False),
        ("fd00::/8", "name.example", "fd00::1", True),
        ("minio.lan, 10.1.0.0/16", "minio.lan", "192.168.0.9", True),
        ("Minio.LAN", "minio.lan", "127.0.0.1", True),
        ("minio.lan", "other.minio.lan", "192.168.0.9", False),
        ("10.0.0.5", "10.0.0.5", "10.0.0.5", True),
        ("", "name.example", "10.0.0.5", False),
    ],
)
def test_operator_allows_hosts_and_networks(text: str, host: str, address: str, taken: bool) -> None:
    assert Allowed.parse(text).takes(host, address) is taken


@pytest.mark.parametrize("text", ["10.1.0.0/33", "10.1.0.1/16", "http://minio.lan", "*.lan", "127.1", "2130706433"])
def test_allow_list_that_cannot_be_read_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(ValueError, match="neither the name of a host nor a network"):
        Allowed.parse(text)
