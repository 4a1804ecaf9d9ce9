"""Stands for the program `vllm`: a process that answers as a server and one behind it that only lives, as its workers.

`python fake_vllm.py [--fails] [--slow-to-end] serve FOLDER ... --port PORT ...`, options before `serve` being the
test's. Writes what it was given into FOLDER/told.json.
"""

import json
import os
import signal
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


class Handler(BaseHTTPRequestHandler):
    """Healthy, idle, and willing to load any adapter under any name."""

    adapters: "set[str]" = set()  # noqa: RUF012 - of the whole process

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._answer(200, json.dumps({"data": [{"id": name, "parent": "small"} for name in self.adapters]}))
        else:
            self._answer(200, "vllm:num_requests_running{} 0\nvllm:num_requests_waiting{} 0\n")

    def do_POST(self) -> None:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["content-length"])))
        name = str(body.get("lora_name"))
        if self.headers["authorization"] != f"Bearer {os.environ['VLLM_API_KEY']}":
            self._answer(401, "")
        elif self.path == "/v1/load_lora_adapter":
            is_new = name not in self.adapters
            self.adapters.add(name)
            self._answer(200 if is_new else 400, "Success" if is_new else f"{name} has already been loaded")
        else:
            self.adapters.discard(name)
            self._answer(200, "Success")

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


def main(arguments: list[str]) -> None:
    if "--fails" in arguments:
        sys.exit(3)
    if "--slow-to-end" in arguments:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    folder = Path(arguments[arguments.index("serve") + 1])
    told = {"arguments": arguments, "environment": dict(os.environ)}
    (folder.parent / "told.json").write_text(json.dumps(told))
    port = int(arguments[arguments.index("--port") + 1])
    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
