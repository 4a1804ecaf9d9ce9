"""A Hugging Face hub of one repository on loopback: its listing, its files by commit, and a token that it may want."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves `folder` as `repository`; `asked` has the paths, `tokens` what came in the Authorization headers."""

    def __init__(self, repository: str, folder: Path, token: str | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repository, self.folder, self.token = repository, folder, token
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub = self.server
        hub.asked.append(self.path)
        token = self.headers.get("authorization")
        hub.tokens.add(token)
        path = self.path.partition("?")[0]
        if hub.token is not None and token != f"Bearer {hub.token}":
            self._send(
                401, b'{"error": "gated"}', {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."}
            )
        elif path.startswith(f"/api/models/{hub.repository}/tree/"):
            self._send(200, json.dumps([self._entry(file) for file in self._files()]).encode())
        elif path.startswith(f"/api/models/{hub.repository}"):
            listing = {
                "id": hub.repository,
                "sha": COMMIT,
                "siblings": [{"rfilename": file.name} for file in self._files()],
            }
            self._send(200, json.dumps(listing).encode())
        elif path.startswith(f"/{hub.repository}/resolve/"):
            self._file(hub.folder / path.rpartition("/")[2])
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _files(self) -> list[Path]:
        return sorted(path for path in self.server.folder.iterdir() if path.is_file())

    def _entry(self, file: Path) -> dict[str, Any]:
        return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": _digest(file)[:40]}

    def _file(self, path: Path) -> None:
        if path.is_file():
            self._send(200, path.read_bytes(), {"ETag": f'"{_digest(path)}"', "X-Repo-Commit": COMMIT})
        else:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def serving(repository: str, folder: Path, token: str | None = None) -> Iterator[Hub]:
    with Hub(repository, folder, token) as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()
