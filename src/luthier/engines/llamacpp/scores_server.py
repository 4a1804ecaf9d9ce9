"""The engine process's second HTTP server: prompts' own log-probabilities, on a loopback port, with the engine's key.

`POST /prompt_logprobs {"tokens": [...], "lora": [{"id", "scale"}], "top": N}` answers `{"content": [entry ...]}`
(`prompt_scores`), an entry for each token and one for what would come next.
"""

import hmac
import json
import select
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from luthier.core.errors import LuthierError
from luthier.engines.llamacpp.prompt_scores import PromptScores

_MAX_BODY_BYTES = 8 * 1024 * 1024


class ScoresServer(ThreadingHTTPServer):
    """The HTTP server of `PromptScores` in an engine process: a thread for each request; prompts are scored in turn."""

    daemon_threads = True

    def __init__(self, scores: PromptScores, key: str) -> None:
        """Binds a free loopback port; `key` is what callers must bear as `Authorization: Bearer`."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scores = scores
        self.key = key

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def start(self) -> None:
        """Answers requests from now on, in threads that end with the process."""
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: object, client_address: object) -> None:
        """A caller that disconnects is no error, and nothing of a request is logged."""


class _Handler(BaseHTTPRequestHandler):
    """Answers one request of the service."""

    server: ScoresServer

    def do_POST(self) -> None:
        """Answers with the entries of a prompt; 401 for a wrong key, 503 if they cannot be computed.

        The path is not looked at. A body that is not as the module says ends the connection without an answer.
        """
        if not hmac.compare_digest(self.headers.get("authorization", ""), f"Bearer {self.server.key}"):
            self._send(401, {"error": {"message": "wrong key", "type": "authentication_error"}})
            return
        body = json.loads(self.rfile.read(min(int(self.headers["content-length"]), _MAX_BODY_BYTES)))
        scales = {int(adapter["id"]): float(adapter["scale"]) for adapter in body.get("lora", ())}
        try:
            entries = self.server.scores.score(body["tokens"], scales, body["top"], self._is_awaited)
        except LuthierError as error:
            self._send(503, {"error": {"message": error.message, "type": error.code}})
            return
        self._send(200, {"content": entries})

    def _is_awaited(self) -> bool:
        """Whether the caller is still there: a connection that it has closed can be read, and gives no byte."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return not readable or bool(self.connection.recv(1, socket.MSG_PEEK))

    def _send(self, status: int, answer: object) -> None:
        """Writes a whole JSON response."""
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing of a request is logged."""
