"""A vendor's variables are the vendor's: no command takes its key, its address or its headers for ours."""

import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send
from typer.testing import CliRunner, Result

import rows
from asgi_switch import Switch
from fakes import BASE, KEY
from luthier.cli.main import app
from luthier.service.context import Context

Command = Callable[..., Result]


class _Server(http.server.ThreadingHTTPServer):
    heard: list[object]


class _Vendor(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.server.heard.append((self.path, dict(self.headers)))
        self.send_error(500)

    do_POST = do_PUT = do_DELETE = do_CONNECT = do_GET


@pytest.fixture
def vendor() -> Iterator[tuple[str, list[object]]]:
    """A host that is a vendor's, or a proxy: what it hears is what went the wrong way."""
    server = _Server(("127.0.0.1", 0), _Vendor)
    server.heard = []
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", server.heard
    server.shutdown()
    server.server_close()


@pytest.fixture
def received(url: str, switch: tuple[Switch, str]) -> list[dict[str, str]]:
    """The headers of every request that the service gets."""
    inner = switch[0].app
    heard: list[dict[str, str]] = []

    async def recording(scope: Scope, receive: Receive, send: Send) -> None:
        assert inner is not None
        heard.append({name.decode(): value.decode() for name, value in scope["headers"]})
        await inner(scope, receive, send)

    switch[0].app = recording
    return heard


@pytest.fixture
def luthier(
    url: str, vendor: tuple[str, list[object]], context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    at = vendor[0]
    for name, value in {
        "OPENAI_API_KEY": "sk-of-a-vendor",
        "OPENAI_ADMIN_KEY": "sk-admin-of-a-vendor",
        "OPENAI_BASE_URL": f"{at}/v1",
        "OPENAI_ORG_ID": "org-of-a-vendor",
        "OPENAI_PROJECT_ID": "proj-of-a-vendor",
        "OPENAI_CUSTOM_HEADERS": "Authorization: Bearer sk-of-a-vendor",
        "AZURE_OPENAI_API_KEY": "azure-key-of-a-vendor",
        "AZURE_OPENAI_AD_TOKEN": "azure-token-of-a-vendor",
        "AZURE_OPENAI_ENDPOINT": at,
        "HTTP_PROXY": at,
        "http_proxy": at,
        "ALL_PROXY": at,
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("LUTHIER_API_KEY", raising=False)
    monkeypatch.setenv("LUTHIER_URL", url)
    monkeypatch.setenv("LUTHIER_DATA_DIR", str(context.data_folder))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_bytes(rows.good())
    return lambda *arguments: CliRunner().invoke(app, list(arguments))


def test_no_byte_goes_to_the_vendor_and_none_of_its_words_to_the_service(
    luthier: Command, vendor: tuple[str, list[object]], received: list[dict[str, str]]
) -> None:
    for arguments in (
        ("status",),
        ("files", "upload", "rows.jsonl"),
        ("files", "list"),
        ("jobs", "create", "--model", BASE, "--data", "rows.jsonl"),
        ("jobs", "list"),
        ("models", "list"),
        ("deployments", "list"),
    ):
        done = luthier(*arguments)
        assert done.exit_code == 0, (arguments, done.output)
    assert vendor[1] == []
    assert len(received) >= 7
    assert not [headers for headers in received if "vendor" in str(headers)]


def test_import_reads_the_vendors_key_for_the_account_that_it_is_told_to_and_writes_to_the_service_alone(
    luthier: Command,
    vendor: tuple[str, list[object]],
    received: list[dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_CUSTOM_HEADERS")  # which the SDK sends to the vendor before any key
    done = luthier("import-jobs", "--from", f"{vendor[0]}/v1", "--api-key", "sk-given", "--dry-run")
    assert done.exit_code == 1
    asked = str(vendor[1])
    assert "sk-given" in asked
    assert KEY not in asked
    assert not [headers for headers in received if "sk-" in str(headers)]


def test_refused_key_is_told_with_its_source(luthier: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LUTHIER_API_KEY", "another-key")
    refused = luthier("jobs", "list")
    assert refused.exit_code == 1
    assert "The key that was sent is that of LUTHIER_API_KEY." in refused.stderr
    assert "OPENAI_API_KEY and AZURE_OPENAI_API_KEY are vendors', and never sent here." in refused.stderr
    assert "another-key" not in refused.output
    monkeypatch.delenv("LUTHIER_API_KEY")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "api-key").write_text("a-key-of-then\n")
    monkeypatch.setenv("LUTHIER_DATA_DIR", str(tmp_path / "other"))
    assert f"that of the file {tmp_path / 'other' / 'api-key'}." in luthier("jobs", "list").stderr
    (tmp_path / "other" / "api-key").unlink()
    missing = luthier("jobs", "list")
    assert "No API key: set LUTHIER_API_KEY" in missing.stderr
    assert "never sent here" in missing.stderr


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/", "/openai", "/openai/", "/openai/v1", "/openai/v1/"])
def test_every_base_url_of_the_service_works_as_its_address(
    luthier: Command, url: str, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUTHIER_URL", url + suffix)
    for group in ("models", "deployments"):
        done = luthier(group, "list")
        assert done.exit_code == 0, done.output


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1:8000", "ftp://here", "http://", "http://here:port", " "])
def test_what_is_no_address_is_told_so(luthier: Command, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_URL", address)
    refused = luthier("models", "list")
    assert refused.exit_code == 1
    assert "LUTHIER_URL is like http://127.0.0.1:8000" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize("key", ["käse", "two words", "line\nbreak"])
def test_key_that_no_header_carries_is_told_so(luthier: Command, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUTHIER_API_KEY", key)
    refused = luthier("models", "list")
    assert refused.exit_code == 1
    assert "LUTHIER_API_KEY cannot be sent" in refused.stderr
    assert key not in refused.output
