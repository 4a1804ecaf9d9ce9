"""TLS: the openai client with an authority of its own, handshakes, certificates that change, and proxies in front."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import httpx2
import openai
import pytest
from openai import OpenAI
from starlette.types import Receive, Scope, Send
from typer.testing import CliRunner

import peers
import rows
from authority import Authority
from fakes import BASE, KEY, engine_calls
from luthier.api import server
from luthier.api.arm import arm_names
from luthier.api.http.connection_limits import Limits
from luthier.api.http.tls import Certificate
from luthier.api.services import Services
from luthier.cli import main
from luthier.core.quotas import Quota
from luthier.grammars.grammar_checker import GrammarChecker
from luthier.service.context import Context
from luthier.service.models import deployments
from luthier.service.models.deployments import DeploymentRequest
from luthier.service.models.serving import Serving
from luthier.service.tenants import quotas
from luthier.service.tenants.keys import DEFAULT_RESOURCE
from luthier.settings import Settings

VERSION = {"api-version": "2024-10-21"}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


def certificate_of(authority: Authority) -> Certificate:
    pair = authority.make()
    return Certificate(pair.cert, pair.key)


def test_openai_client_over_https_with_an_authority_of_its_own(
    context: Context, serving: Serving, grammars: GrammarChecker, authority: Authority
) -> None:
    app = server.build(Services(context, serving, lambda: None, grammars=grammars, calls=engine_calls()), None)
    with peers.served(app, Limits(), certificate=certificate_of(authority)) as url:
        trusting = httpx2.Client(verify=authority.trusting())
        with OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, http_client=trusting) as client:
            file = client.files.create(file=("t.jsonl", rows.good(20_000)), purpose="fine-tune")
            assert file.bytes > 2**20
            assert client.files.content(file.id).read() == rows.good(20_000)
            job = client.fine_tuning.jobs.create(model=BASE, training_file=file.id)
            made = trusting.get(f"{url}/openai/files", params=VERSION, headers={"api-key": KEY})
            assert made.json()["data"][0]["id"] == file.id
            assert job.training_file == file.id
        with OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as stranger:
            with pytest.raises(openai.APIConnectionError) as caught:
                stranger.models.list()
            assert "certificate" in str(caught.value.__cause__).lower()


def test_commands_say_what_is_wrong_with_tls_and_not_that_nothing_answers(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUTHIER_API_KEY", KEY)
    with peers.served(hello, Limits(), certificate=certificate_of(authority)) as there:
        wrong = {
            there: "answers, but its certificate is not accepted: ",
            there.replace("https:", "http:"): "LUTHIER_URL begins with https://",
        }
        for url, words in wrong.items():
            for command in (["jobs", "list"], ["status"]):
                done = CliRunner().invoke(main.app, command, env={"LUTHIER_URL": url})
                assert done.exit_code == 1
                assert words in done.output
                assert "luthier serve` running" not in done.output
    with peers.served(hello, Limits()) as plain:
        url = plain.replace("http:", "https:")
        assert (
            "LUTHIER_URL begins with http://"
            in CliRunner().invoke(main.app, ["status"], env={"LUTHIER_URL": url}).output
        )


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"])
def test_half_a_handshake_is_closed_in_time(authority: Authority, sent: bytes) -> None:
    limits = Limits(head_s=0.4)
    with peers.served(hello, limits, certificate=certificate_of(authority)) as url:
        began = time.monotonic()
        with bare(url) as half:
            half.sendall(sent)
            while half.recv(1000):  # an alert, at most
                pass
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("limits", [Limits(per_address=4), Limits(connections=4)], ids=["of one address", "in all"])
def test_half_handshakes_are_counted_and_make_room(authority: Authority, limits: Limits) -> None:
    with peers.served(hello, limits, certificate=certificate_of(authority)) as url:
        halves = [bare(url) for _ in range(12)]
        for _ in range(3):
            with peers.asking(url, peers.head("GET", "/")) as whole:
                assert peers.answer(whole)[2] == b"hello"
        assert halves[0].recv(1) == b""
        for half in halves:
            half.close()


def test_stop_waits_for_no_handshake(authority: Authority) -> None:
    with peers.served(hello, Limits(), grace_s=30, certificate=certificate_of(authority)) as url:
        half = bare(url)
        time.sleep(0.1)
        began = time.monotonic()
    assert time.monotonic() - began < 5
    half.close()


def test_stop_waits_for_no_farewell_of_an_idle_peer(authority: Authority) -> None:
    with ExitStack() as open_ones:
        with peers.served(hello, Limits(), grace_s=30, certificate=certificate_of(authority)) as url:
            idle = open_ones.enter_context(peers.asking(url, peers.head("GET", "/")))
            assert peers.answer(idle)[2] == b"hello"
            began = time.monotonic()
        assert time.monotonic() - began < 1.5
        assert idle.recv(1) == b"", "it is told properly all the same"


def bare(url: str) -> socket.socket:
    address = httpx2.URL(url)
    return socket.create_connection((address.host, address.port), timeout=20)


def test_certificate_is_loaded_again_and_a_broken_one_is_not(authority: Authority) -> None:
    pair = authority.make()
    certificate = Certificate(pair.cert, pair.key)
    with peers.served(hello, Limits(), certificate=certificate) as url:
        first = ssl.get_server_certificate((httpx2.URL(url).host, httpx2.URL(url).port))
        authority.make()  # in the same files
        certificate.reload()
        second = ssl.get_server_certificate((httpx2.URL(url).host, httpx2.URL(url).port))
        assert first != second
        pair.cert.write_text("nonsense")
        with pytest.raises(ValueError, match="is no PEM file"):
            certificate.reload()
        assert ssl.get_server_certificate((httpx2.URL(url).host, httpx2.URL(url).port)) == second


def test_faults_of_the_files_are_named(authority: Authority, tmp_path: Path) -> None:
    pair, other = authority.make(), authority.make("other")
    locked = authority.make("locked", passphrase=b"secret")
    text = tmp_path / "text"
    text.write_text("hello")
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    for cert, key, words in (
        (tmp_path / "none", pair.key, "tls_cert: .*none: No such file"),
        (tmp_path, pair.key, "tls_cert: .*: Is a directory"),
        (text, pair.key, "tls_cert: .*text is no PEM file"),
        (pair.cert, text, "tls_key: .*text is no PEM file"),
        (pair.cert, other.key, "tls_key: .*other.key is not the key of the certificate in .*server.pem"),
        (locked.cert, locked.key, "tls_key: .*locked.key is encrypted .* openssl pkey"),
        (broken, pair.key, "no certificate and key in PEM"),
        (pair.key, pair.cert, "no certificate and key in PEM"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            Certificate(cert, key)
        assert "\n" not in str(caught.value)


def test_certificate_that_has_ended_and_key_that_all_can_read_are_told(authority: Authority) -> None:
    ended = authority.make("ended", days=-1)
    assert "clients will refuse it" in Certificate(ended.cert, ended.key).warnings()[0]
    good = authority.make()
    assert Certificate(good.cert, good.key).warnings() == []
    good.key.chmod(0o644)
    assert f"chmod 600 {good.key}" in Certificate(good.cert, good.key).warnings()[0]


@pytest.mark.parametrize("name", ["tls_cert", "tls_key"])
def test_one_file_without_the_other_is_a_wrong_setting(name: str) -> None:
    with pytest.raises(ValueError, match="LUTHIER_TLS_CERT"):
        Settings(**{name: Path("x.pem")})


@pytest.mark.parametrize("value", ["proxy.example", "10.0.0.0/99"])
def test_proxies_are_addresses(value: str) -> None:
    assert Settings(trusted_proxies="10.0.0.0/8, ::1").trusted_proxies
    with pytest.raises(ValueError, match="addresses or networks"):
        Settings(trusted_proxies=value)


def test_serve_speaks_tls_and_loads_the_certificate_again_on_sighup(authority: Authority, tmp_path: Path) -> None:
    pair = authority.make()
    command = [sys.executable, "-m", "luthier", "serve", "--port", "0", "--data-dir", str(tmp_path / "data")]
    command += ["--tls-cert", str(pair.cert), "--tls-key", str(pair.key)]
    service = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert service.stdout is not None
    assert service.stderr is not None
    try:
        lines = iter(service.stdout.readline, "")
        url = next(line.strip().partition("=")[2] for line in lines if line.startswith("export AZURE_OPENAI_ENDPOINT="))
        assert url.startswith("https://127.0.0.1:")
        with httpx2.Client(verify=authority.trusting()) as client:
            assert client.get(f"{url}/healthz").json() == {"status": "alive"}
        where = httpx2.URL(url).host, httpx2.URL(url).port
        first = ssl.get_server_certificate(where)
        authority.make()
        service.send_signal(signal.SIGHUP)
        assert any("loaded again" in line for line in iter(service.stderr.readline, ""))
        assert ssl.get_server_certificate(where) != first
        pair.key.write_text("nonsense")
        service.send_signal(signal.SIGHUP)
        assert any("the old one stays: tls_key" in line for line in iter(service.stderr.readline, ""))
        service.send_signal(signal.SIGTERM)
        assert service.wait(30) == 0
    finally:
        service.kill()
        service.wait()
        service.stdout.close()
        service.stderr.close()
    broken = subprocess.run(command, capture_output=True, text=True)
    assert (broken.returncode, broken.stderr.count("\n")) == (1, 1)
    assert "tls_key" in broken.stderr


@pytest.mark.parametrize(("trusted", "scheme"), [("127.0.0.1", "https"), ("10.0.0.0/8", "http")])
def test_links_carry_the_outer_address_if_the_proxy_is_trusted(
    context: Context, serving: Serving, grammars: GrammarChecker, trusted: str, scheme: str
) -> None:
    quotas.set_limits(context, DEFAULT_RESOURCE.id, {Quota.DEPLOYMENTS: 1000})
    for number in range(101):
        deployments.put(context, DEFAULT_RESOURCE.id, DeploymentRequest(f"d{number:03d}", BASE, None, "Standard", 1))
    app = server.build(Services(context, serving, lambda: None, grammars=grammars, calls=engine_calls()), None)
    outer = {"host": "luthier.example", "x-forwarded-proto": "https", "x-forwarded-for": "203.0.113.7"}
    with (
        peers.served(app, Limits(), forwarded_allow_ips=trusted) as url,
        httpx2.Client(base_url=url, headers=outer | {"api-key": KEY}, params=VERSION) as client,
    ):
        file = client.post("/openai/files", data={"purpose": "fine-tune"}, files={"file": ("t.jsonl", rows.good(10))})
        job = client.post("/openai/fine_tuning/jobs", json={"model": BASE, "training_file": file.json()["id"]})
        scale = {"model": BASE, "scale_settings": {"scale_type": "standard"}}
        deployment = client.post("/openai/deployments", json=scale)
        listed = client.get(arm_names.path_of(DEFAULT_RESOURCE)).json()["nextLink"]
        account = client.get(arm_names.id_of(DEFAULT_RESOURCE)).json()["properties"]["endpoint"]
    made = [answer.headers["location"] for answer in (file, job, deployment)]
    for link in (*made, listed, account):
        assert link.startswith(f"{scheme}://luthier.example/"), link
