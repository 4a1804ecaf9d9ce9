"""A Hugging Face hub that takes uploads, on loopback: repositories, the LFS protocol in one part or several, commits.

Written after what huggingface_hub 2.4.0 sends; it refuses what a hub would refuse.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_test_token_that_may_write"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
REGULAR_BYTES = 100_000
"""A larger file goes by LFS."""
PART_BYTES = 1_000_000
"""An LFS object that is larger comes in several parts."""


class UploadHub(ThreadingHTTPServer):
    """`repositories` are what was asked when they were made, `files` what was committed, `asked` each request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, dict[str, Any]] = {}
        self.files: dict[str, dict[str, bytes]] = {}
        self.objects: dict[str, bytes] = {}
        self.parts: dict[tuple[str, int], bytes] = {}
        self.asked: list[str] = []
        self.commits: list[dict[str, Any]] = []
        self.refuses_objects = False

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: UploadHub

    def do_POST(self) -> None:
        content = self._read()
        hub, path = self.server, self.path.partition("?")[0]
        hub.asked.append(f"POST {path}")
        if path.startswith("/complete/"):
            self._complete(path.rpartition("/")[2], json.loads(content))
        elif self.headers.get("authorization") != f"Bearer {TOKEN}":
            self._send(401, {"error": "Invalid credentials"}, {"X-Error-Message": "Invalid credentials"})
        elif path == "/api/repos/create":
            self._create(json.loads(content))
        elif path == "/api/validate-yaml":
            assert json.loads(content)["content"].startswith("---\n")
            self._send(200, {"warnings": [], "errors": []})
        elif path.endswith("/preupload/main"):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["size"] > REGULAR_BYTES else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(content)["files"]
            ]
            self._send(200, {"files": files})
        elif path.endswith("/info/lfs/objects/batch"):
            self._send(200, {"objects": [self._object(one) for one in json.loads(content)["objects"]]})
        elif path.endswith("/commit/main"):
            self._commit(path.removeprefix("/api/models/").removesuffix("/commit/main"), content.splitlines())
        else:
            self._send(404, {"error": path})

    def do_PUT(self) -> None:
        content = self._read()
        _, kind, oid, number = self.path.split("/")
        self.server.asked.append(f"PUT /{kind}")
        if self.server.refuses_objects:
            self._send(403, {"error": "no room"}, {"X-Error-Message": "Storage quota exceeded"})
            return
        if kind == "part":
            self.server.parts[oid, int(number)] = content
        else:
            self._store(oid, content)
        self._send(200, {}, {"ETag": hashlib.md5(content).hexdigest()})

    def do_GET(self) -> None:
        self.server.asked.append(f"GET {self.path}")
        name = self.path.removeprefix("/api/models/").partition("/")[0:1]
        self._send(200, {"id": str(name), "sha": COMMIT, "siblings": []})

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] == "forbidden":
            self._send(403, {"error": "no"}, {"X-Error-Message": "You may not write to forbidden."})
        elif name in self.server.repositories:
            self._send(409, {"error": "You already created this model repo", "url": f"{self.server.endpoint}/{name}"})
        else:
            self.server.repositories[name] = asked
            self.server.files[name] = {}
            self._send(200, {"url": f"{self.server.endpoint}/{name}", "name": name})

    def _object(self, asked: dict[str, Any]) -> dict[str, Any]:
        oid, size = asked["oid"], asked["size"]
        if oid in self.server.objects:
            return {"oid": oid, "size": size}
        root = self.server.endpoint
        if size <= PART_BYTES:
            return {"oid": oid, "size": size, "actions": {"upload": {"href": f"{root}/object/{oid}/0"}}}
        header = {str(n + 1): f"{root}/part/{oid}/{n + 1}" for n in range(-(-size // PART_BYTES))}
        upload = {"href": f"{root}/complete/{oid}", "header": {"chunk_size": str(PART_BYTES), **header}}
        return {"oid": oid, "size": size, "actions": {"upload": upload}}

    def _complete(self, oid: str, asked: dict[str, Any]) -> None:
        parts = [self.server.parts[oid, part["partNumber"]] for part in asked["parts"]]
        assert [part["etag"] for part in asked["parts"]] == [hashlib.md5(part).hexdigest() for part in parts]
        self._store(oid, b"".join(parts))
        self._send(200, {})

    def _store(self, oid: str, content: bytes) -> None:
        assert hashlib.sha256(content).hexdigest() == oid, "the object is not what its name says"
        self.server.objects[oid] = content

    def _commit(self, name: str, lines: list[bytes]) -> None:
        files = self.server.files[name]
        for line in map(json.loads, lines):
            value = line["value"]
            match line["key"]:
                case "header":
                    self.server.commits.append(value)
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.server.objects[value["oid"]]
        self._send(200, {"commitUrl": f"{self.server.endpoint}/{name}/commit/{COMMIT}", "commitOid": COMMIT})

    def _read(self) -> bytes:
        """A body of a known length, or in chunks."""
        if self.headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        pieces = []
        while length := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(length))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _send(self, status: int, answer: object, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def running() -> Iterator[UploadHub]:
    with UploadHub() as hub:
        thread = threading.Thread(target=hub.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield hub
        hub.shutdown()
        thread.join()
