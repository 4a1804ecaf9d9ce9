"""A receiver of webhooks on loopback: it writes down what comes, and answers what the test says."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from openai import OpenAI
from openai.types.webhooks import UnwrapWebhookEvent

from servers import serving


@dataclass(frozen=True)
class Posted:
    """One POST as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def timestamp(self) -> int:
        return int(self.headers["webhook-timestamp"])

    def unwrap(self, secret: str) -> UnwrapWebhookEvent:
        """As the official SDK checks it; raises InvalidWebhookSignatureError."""
        with OpenAI(api_key="unused") as client:
            return client.webhooks.unwrap(self.body, self.headers, secret=secret)


@dataclass
class Receiver:
    """`answers` are the statuses of the next POSTs, then 200; `before` runs before each answer, which has `headers`."""

    port: int = 0
    posted: list[Posted] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[Posted], object] = lambda posted: None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, path: str = "/hook") -> str:
        return f"http://receiver.example:{self.port}{path}"

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["content-length"]))
        headers = {name.lower(): value for name, value in request.headers.items()}
        posted = Posted(request.path, headers, body)
        with self._lock:
            self.posted.append(posted)
            status = self.answers.pop(0) if self.answers else 200
        self.before(posted)
        request.send_response(status)
        for name, value in ({"content-length": "0"} | self.headers).items():
            request.send_header(name, value)
        request.end_headers()

    def paths(self) -> list[str]:
        return [posted.path for posted in self.posted]


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    with serving(receiver.answer) as port:
        receiver.port = port
        yield receiver
