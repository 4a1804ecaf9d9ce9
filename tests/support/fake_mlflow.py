"""An MLflow tracking server as its file store behaves: metrics are appended, whatever is there already.

tests/trackers runs the same deliveries against the real one.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from servers import Quiet

PREFIX = "/api/2.0/mlflow/"
PAGE = 3
"""Metrics in a page of a history: few, so that tests meet several pages."""


class Refusal(Exception):
    def __init__(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self.status, self.code, self.headers = status, code, headers or {}


@dataclass
class FakeMlflow:
    """What the server has, and how it behaves: `before` and `after` get each call's number from 1, and may refuse, kill
    somebody or wait; `token` is the one that it wants.
    """

    experiments: dict[str, str] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    before: Callable[[int], object] = lambda number: None
    after: Callable[[int], object] = lambda number: None
    token: str = ""
    port: int = 0
    hanging: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run_of(self, job_id: str) -> dict[str, Any]:
        """The only run of a job."""
        [run] = [run for run in self.runs.values() if run["tags"]["luthier.job_id"] == job_id]
        return run

    def hang(self, number: int) -> None:
        """A `before` that never answers, until the server ends."""
        self.hanging.wait(60)

    def refuse(self, status: int, code: str = "INTERNAL_ERROR", **headers: str) -> None:
        """Has every call refused from now on."""

        def before(number: int) -> None:
            raise Refusal(status, code, headers)

        self.before = before

    def behave(self) -> None:
        """Has every call answered from now on."""
        self.before = self.after = lambda number: None

    def answer(self, operation: str, body: dict[str, Any], token: str) -> dict[str, Any]:
        with self._lock:
            self.calls.append(operation)
            number = len(self.calls)
        self.before(number)
        if token != self.token:
            raise Refusal(401, "UNAUTHENTICATED")
        with self._lock:
            answer: dict[str, Any] = getattr(self, "_" + operation.replace("/", "_").replace("-", "_"))(body)
        self.after(number)
        return answer

    def _experiments_get_by_name(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["experiment_name"] not in self.experiments:
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST")
        return {"experiment": {"experiment_id": self.experiments[body["experiment_name"]]}}

    def _experiments_create(self, body: dict[str, Any]) -> dict[str, Any]:
        id = self.experiments[body["name"]] = str(len(self.experiments) + 1)
        return {"experiment_id": id}

    def _runs_search(self, body: dict[str, Any]) -> dict[str, Any]:
        job_id = body["filter"].split("'")[1]
        assert body["filter"] == f"tags.`luthier.job_id` = '{job_id}'"
        found = [id for id, run in self.runs.items() if run["tags"]["luthier.job_id"] == job_id]
        return {"runs": [{"info": {"run_id": id}} for id in found]} if found else {}

    def _runs_create(self, body: dict[str, Any]) -> dict[str, Any]:
        id = f"{len(self.runs) + 1:032x}"
        tags = {tag["key"]: tag["value"] for tag in body["tags"]}
        self.runs[id] = {"name": body["run_name"], "tags": tags, "metrics": [], "params": {}, "status": "RUNNING"}
        return {"run": {"info": {"run_id": id}}}

    def _runs_get(self, body: dict[str, Any]) -> dict[str, Any]:
        latest = {metric["key"]: metric for metric in self._known(body)["metrics"]}
        return {"run": {"info": {}, "data": {"metrics": list(latest.values())}}}

    def _metrics_get_history(self, body: dict[str, Any]) -> dict[str, Any]:
        metrics = [metric for metric in self._known(body)["metrics"] if metric["key"] == body["metric_key"]]
        start = int(body.get("page_token", "0"))
        more = {"next_page_token": str(start + PAGE)} if start + PAGE < len(metrics) else {}
        return {"metrics": metrics[start : start + PAGE], **more}

    def _runs_log_batch(self, body: dict[str, Any]) -> dict[str, Any]:
        run = self._known(body)
        if len(body["metrics"]) > 1000 or len(body["params"]) > 100:
            raise Refusal(400, "INVALID_PARAMETER_VALUE")
        for param in body["params"]:
            if run["params"].setdefault(param["key"], param["value"]) != param["value"]:
                raise Refusal(400, "INVALID_PARAMETER_VALUE")
        run["metrics"] += [{**metric, "value": float(metric["value"])} for metric in body["metrics"]]
        return {}

    def _runs_update(self, body: dict[str, Any]) -> dict[str, Any]:
        self._known(body)["status"] = body["status"]
        return {"run_info": {}}

    def _known(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["run_id"] not in self.runs:
            raise Refusal(404, "RESOURCE_DOES_NOT_EXIST")
        return self.runs[body["run_id"]]


@contextmanager
def running() -> Iterator[FakeMlflow]:
    """A server on loopback."""
    fake = FakeMlflow()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            self._answer({name: values[0] for name, values in query.items()})

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def _answer(self, body: dict[str, Any]) -> None:
            operation = urlsplit(self.path).path.removeprefix(PREFIX)
            token = self.headers.get("authorization", "").removeprefix("Bearer ")
            status, headers = 200, {}
            try:
                answer = fake.answer(operation, body, token)
            except Refusal as refusal:
                status, headers = refusal.status, refusal.headers
                answer = {"error_code": refusal.code, "message": "a text that nobody is shown"}
            data = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in (headers | {"content-length": str(len(data))}).items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    fake.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.hanging.set()
        server.shutdown()
        thread.join()
        server.server_close()
