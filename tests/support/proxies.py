"""Reverse proxies of other people in front of a service, set up by the files of docs/deploy."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from repository import ROOT
from waiting import until

DEPLOY = ROOT / "docs" / "deploy"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def program(name: str) -> str:
    path = shutil.which(name, path="/usr/sbin:/usr/bin:/usr/local/bin:/sbin:/bin")
    if path is None:
        pytest.skip(f"{name} is not installed: apt-get install {name}")
    return path


def changed(name: str, *changes: tuple[str, str]) -> str:
    """One of our files with the lines changed that it says are to be changed."""
    text = (DEPLOY / name).read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextmanager
def nginx(service: str, folder: Path, *others: str) -> Iterator[str]:
    """nginx with TLS by a certificate of its own (`folder`/tls.pem) in front of the service's URL, and of those of
    further API processes.
    """
    binary, port = program("nginx"), free_port()
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.pem"), "-days", "2"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, *names], check=True, capture_output=True)
    site = changed(
        "nginx.conf",
        ("127.0.0.1:8000", urlsplit(service).netloc),
        ("listen 443 ssl", f"listen 127.0.0.1:{port} ssl"),
        ("luthier.example", "localhost"),
        ("/etc/luthier/tls", str(folder / "tls")),
        ("# server 127.0.0.1:8001;", "\n".join(f"server {urlsplit(other).netloc};" for other in others)),
    )
    folders = "".join(
        f"{name}_temp_path {folder}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "site.conf").write_text(site)
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log info; user root;\n"
        f"events {{}}\nhttp {{ access_log off; {folders} include {folder}/site.conf; }}\n"
    )
    with _running([binary, "-p", str(folder), "-c", str(folder / "nginx.conf")], port, folder):
        yield f"https://localhost:{port}"


@contextmanager
def caddy(service: str, folder: Path) -> Iterator[str]:
    """Caddy without TLS, which needs a public name, in front of the service's URL."""
    binary, port = program("caddy"), free_port()
    site = changed("Caddyfile", ("127.0.0.1:8000", urlsplit(service).netloc), ("luthier.example", f"http://:{port}"))
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n\tauto_https off\n}}\n{site}")
    with _running([binary, "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"], port, folder):
        yield f"http://localhost:{port}"


@contextmanager
def _running(command: list[str], port: int, folder: Path) -> Iterator[None]:
    """The process while the block lasts, from when its port is open."""
    with (folder / "proxy.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={"HOME": str(folder), "PATH": "/usr/bin:/bin"})

    def is_open() -> bool:
        assert process.poll() is None, (folder / "proxy.log").read_text()
        with socket.socket() as one:
            return one.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(is_open, 20)
        yield
    finally:
        process.terminate()
        process.wait(30)
