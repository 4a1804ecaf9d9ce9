"""Refusals for what a request is, before anything of it is used; and the request id that every answer carries."""

import logging
import socket

import httpx2
import pytest
from fastapi import FastAPI

import walk
from control_plane import PATH
from fakes import KEY
from luthier.core.models import Principal
from luthier.core.quotas import Quota
from luthier.core.roles import Role
from luthier.service.context import Context
from luthier.service.tenants import keys, quotas

JSON = {"api-key": KEY, "content-type": "application/json"}
VERSION = "?api-version=2024-10-21"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1/fine_tuning/jobs", "unsupported_media_type"),
        (f"/openai/fine_tuning/jobs{VERSION}", "invalidPayload"),
        ("/openai/v1/chat/completions", "invalidPayload"),
        (f"{PATH}/d".replace("deployments/d", "regenerateKey"), "UnsupportedMediaType"),
    ],
)
def test_json_route_takes_no_other_kind_of_body(url: str, path: str, code: str, kind: str) -> None:
    answer = httpx2.post(url + path, headers={"api-key": KEY, "content-type": kind}, content=b'{"model": "m"}')
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, code)
    assert "application/json" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/merge-patch+json"]
)
def test_json_in_any_spelling_is_json(url: str, kind: str) -> None:
    headers = {"api-key": KEY, "content-type": kind}
    answer = httpx2.post(f"{url}/v1/fine_tuning/jobs", headers=headers, content=b'{"model": "m"}')
    assert "training_file" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {f"x-{number}": "v" for number in range(101)},
        {"x-long": "v" * 33_000},
        {"x-a": "v" * 20_000, "x-b": "v" * 20_000},
    ],
    ids=["many", "long", "long together"],
)
@pytest.mark.parametrize("path", ["/v1/files", f"/openai/files{VERSION}", "/openai/v1/files", PATH])
def test_too_many_headers_are_a_431_in_words(url: str, path: str, headers: dict[str, str]) -> None:
    answer = httpx2.get(url + path, headers={"api-key": KEY} | headers)
    assert answer.status_code == 431
    assert "at most 100" in answer.json()["error"]["message"]
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-request-id"]


def test_as_many_headers_as_clients_send_are_taken(url: str) -> None:
    headers = {"api-key": KEY} | {f"x-{number}": "v" * 100 for number in range(80)}
    assert httpx2.get(f"{url}/v1/files", headers=headers).status_code == 200


def test_headers_beyond_the_parsers_buffer_end_the_connection_and_nothing_else(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"GET /v1/files HTTP/1.1\r\nhost: a\r\nx-long: ")
        try:
            for _ in range(40):
                connection.sendall(b"v" * 16_384)
            assert b" 400 " in connection.recv(100)
        except (BrokenPipeError, ConnectionResetError):
            pass
    assert httpx2.get(f"{url}/healthz").status_code == 200


@pytest.mark.parametrize(
    ("path", "declared"), [("/v1/fine_tuning/jobs", 33 * 2**20), ("/v1/files", 600 * 2**20), (f"{PATH}/d", 33 * 2**20)]
)
def test_body_over_the_cap_is_refused_before_a_byte_of_it_is_sent(url: str, path: str, declared: int) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        head = f"POST {path} HTTP/1.1\r\nhost: a\r\napi-key: {KEY}\r\ncontent-length: {declared}\r\n\r\n"
        connection.sendall(head.encode())
        assert b" 413 " in connection.recv(100)


def test_body_without_a_length_is_cut_off_at_the_cap(url: str) -> None:
    def endless() -> object:
        for _ in range(34):
            yield b" " * 2**20

    answer = httpx2.post(f"{url}/v1/fine_tuning/jobs", headers=JSON, content=endless())
    assert answer.status_code == 413


def test_every_route_says_405_for_a_method_that_it_has_not(app: FastAPI, url: str) -> None:
    for call in walk.calls(app):
        odd = walk.Call("TRACE", call.template, call.action)
        answer = walk.request(url, odd, walk.NEVER, KEY)
        assert answer.status_code == 405, call
        assert "TRACE is not allowed here" in answer.json()["error"]["message"]
        assert answer.headers["x-request-id"]


def test_every_kind_of_answer_carries_the_request_id_that_stands_in_the_log(
    app: FastAPI, url: str, context: Context, caller: Principal, caplog: pytest.LogCaptureFixture
) -> None:
    @app.get("/v1/broken")
    def broken() -> None:
        raise ZeroDivisionError

    reader = keys.create(context, caller.resource.id, "reader", Role.USAGES_READER)
    quotas.set_limits(context, caller.resource.id, {Quota.FILES: 0})
    file = {"file": ("rows.jsonl", b"{}\n"), "purpose": (None, "fine-tune")}
    asked: dict[int, tuple[str, str, dict[str, object]]] = {
        200: ("GET", "/v1/files", {}),
        400: ("POST", "/v1/fine_tuning/jobs", {"content": b"{"}),
        401: ("GET", "/v1/files", {"headers": {}}),
        403: ("GET", "/v1/files", {"headers": {"api-key": reader}}),
        404: ("GET", "/v1/files/file-none", {}),
        405: ("PUT", "/v1/files", {}),
        413: ("POST", "/v1/fine_tuning/jobs", {"content": b" " * (33 * 2**20)}),
        415: ("POST", "/v1/fine_tuning/jobs", {"headers": {"api-key": KEY, "content-type": "a/b"}, "content": b"a"}),
        429: ("POST", "/v1/files", {"headers": {"api-key": KEY}, "files": file}),
        431: ("GET", "/v1/files", {"headers": {"x": "v" * 40_000}}),
        500: ("GET", "/v1/broken", {}),
    }
    for status, (method, path, more) in asked.items():
        caplog.clear()
        with caplog.at_level(logging.DEBUG, logger="luthier"):
            try:
                answer = httpx2.request(method, url + path, **{"headers": JSON, **more})
            except httpx2.WriteError:  # the refusal came before the body was through
                continue
        assert answer.status_code == status, (status, answer.text)
        request_id = answer.headers["x-request-id"]
        assert answer.headers["apim-request-id"] == request_id
        assert f"id={request_id}" in caplog.text, status
        assert KEY not in caplog.text
        assert reader not in caplog.text
        if status >= 400:
            assert answer.json()["error"]["message"]
