"""A server with a completions route that a test scripts: which models it lists, and what it says after a prompt."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = dict[str, Any]
Reply = tuple[int, Json]
Complete = Callable[[Json], Reply]


@dataclass
class FakeServer:
    """What the server was asked: the bodies at each path, and the keys. `loads` is how it answers a load."""

    complete: Complete
    models: list[Json] = field(default_factory=lambda: [{"id": "base"}])
    loads: Reply = (200, {})
    asked: list[tuple[str, Json]] = field(default_factory=list)
    keys: set[str | None] = field(default_factory=set)
    url: str = ""

    def bodies(self, path: str) -> list[Json]:
        return [body for asked, body in self.asked if asked == path]

    def reply(self, path: str, body: Json) -> Reply:
        match path:
            case "/v1/models":
                return 200, {"object": "list", "data": self.models}
            case "/v1/completions":
                return self.complete(body)
            case "/v1/load_lora_adapter":
                return self.loads
            case "/v1/unload_lora_adapter":
                return 200, {}
        return 404, {}


@contextmanager
def serving(complete: Complete, **settings: Any) -> Iterator[FakeServer]:
    """A server on loopback for as long as the block lasts."""
    fake = FakeServer(complete, **settings)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def _answer(self, body: Json) -> None:
            fake.asked.append((self.path, body))
            fake.keys.add(self.headers.get("authorization"))
            status, shape = fake.reply(self.path, body)
            data = json.dumps(shape).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def next_token(top: Mapping[str, float]) -> Reply:
    """A completion of one token, the likeliest of `top`, with all of them in its place."""
    likeliest = max(top, key=lambda token: top[token])
    log_probs = {"tokens": [likeliest], "token_logprobs": [top[likeliest]], "top_logprobs": [dict(top)]}
    choice = {"index": 0, "text": likeliest, "logprobs": log_probs, "finish_reason": "length"}
    return 200, {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
