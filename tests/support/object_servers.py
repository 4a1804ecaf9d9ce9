"""Object stores of other people's making on this machine, for tests: moto's S3 and Azurite's Azure Blob Storage.

`make test-blobs` brings both into .cache/blobs. Their objects are in memory.
"""

import base64
import hashlib
import hmac
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from repository import ROOT

FOLDER = Path(os.environ.get("BLOBS_ENV", ROOT / ".cache" / "blobs"))
AZURITE = FOLDER / "node_modules" / ".bin" / "azurite-blob"
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account of every Azurite, published by Microsoft: no secret."""
BUCKET = "runs"
_START_S = 60.0


@dataclass(frozen=True)
class ObjectServer:
    """A running store: `blobs_url` is for LUTHIER_BLOBS_URL, and `environment` what obstore reads beside it."""

    blobs_url: str
    environment: dict[str, str]
    address: str


@contextmanager
def moto() -> Iterator[ObjectServer]:
    """An S3 server with one bucket. Skips the test where moto is not installed."""
    python = FOLDER / "bin" / "python"
    if not python.exists():
        pytest.skip(f"moto is not installed in {FOLDER}: run `make test-blobs`")
    port = _free_port()
    command = [str(python), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    address = f"http://127.0.0.1:{port}"
    with _running(command, urllib.request.Request(f"{address}/{BUCKET}", method="PUT")):
        environment = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT": address,
            "AWS_ALLOW_HTTP": "true",
        }
        yield ObjectServer(f"s3://{BUCKET}", environment, address)


@contextmanager
def azurite() -> Iterator[ObjectServer]:
    """An Azure Blob Storage server with one container. Skips the test where it is not installed."""
    if not AZURITE.exists() or shutil.which("node") is None:
        pytest.skip(f"azurite is not installed in {FOLDER}, or there is no node: run `make test-blobs`")
    port = _free_port()
    options = ["--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]
    command = ["node", str(AZURITE), "--blobHost", "127.0.0.1", "--blobPort", str(port), *options]
    address = f"http://127.0.0.1:{port}/{ACCOUNT}"
    with _running(command, _container_request(f"{address}/{BUCKET}")):
        environment = {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": ACCOUNT_KEY,
            "AZURE_STORAGE_ENDPOINT": address,
            "AZURE_ALLOW_HTTP": "true",
        }
        yield ObjectServer(f"az://{BUCKET}", environment, address)


@contextmanager
def _running(command: list[str], first: urllib.request.Request) -> Iterator[None]:
    """A server's process during the block, once it has answered its first request."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                with urllib.request.urlopen(first, timeout=5):
                    break
            except urllib.error.HTTPError:
                raise
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.1)
        yield
    finally:
        process.kill()
        process.wait()


def _container_request(url: str) -> urllib.request.Request:
    """The request that makes a container, signed with the account's shared key as Azure's reference prescribes."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2023-11-03"}
    canonical = "".join(f"{name}:{value}\n" for name, value in headers.items())
    text = "PUT" + "\n" * 12 + f"{canonical}/{ACCOUNT}{urlsplit(url).path}\nrestype:container"
    digest = hmac.new(base64.b64decode(ACCOUNT_KEY), text.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    return urllib.request.Request(f"{url}?restype=container", method="PUT", headers=headers)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def s3_server() -> Iterator[ObjectServer]:
    with moto() as server:
        yield server


@pytest.fixture(scope="session")
def azure_server() -> Iterator[ObjectServer]:
    with azurite() as server:
        yield server


@pytest.fixture(params=["s3", "azure"])
def object_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ObjectServer:
    """Each store in turn, with its credentials in this process's environment."""
    server: ObjectServer = request.getfixturevalue(f"{request.param}_server")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server
