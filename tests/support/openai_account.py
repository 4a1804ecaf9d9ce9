"""A fake of an OpenAI account, built from published shapes: pages with has_more, base64 results, nulls. It records.

Shapes: OpenAI's reference (spec/openai-finetuning, x-oaiMeta examples); the base64 of results: wire-contract.md 10.
"""

import base64
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import rows

KEY = "sk-fake-0123456789"
MODEL = "gpt-4o-mini-2024-07-18"
TUNED = "ft:gpt-4o-mini-2024-07-18:my-org:custom-suffix:7q8mpxmy"
RESULTS = b"step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy\n1,3.63265,0.5,,\n2,1.5,0.75,,\n"
Answer = tuple[int, dict[str, str], bytes]


class FakeAccount:
    """`asked` is every request as method, path and query; `before` may answer one in the account's place."""

    def __init__(self) -> None:
        self.contents = {"file-train": rows.good(12), "file-results": base64.b64encode(RESULTS)}
        self.files = [
            _file("file-results", "step_metrics.csv", "fine-tune-results", len(self.contents["file-results"])),
            _file("file-assist", "salesOverview.pdf", "assistants", 175),
            _file("file-train", "puppy [bold].jsonl", "fine-tune", len(self.contents["file-train"])),
        ]
        self.jobs = [
            job(
                "ftjob-rft",
                method={"type": "reinforcement", "reinforcement": {"hyperparameters": {}}},
                created_at=1721764900,
            ),
            job("ftjob-gone", training_file="file-gone", created_at=1721764850),
            job("ftjob-done", result_files=["file-results"], fine_tuned_model=TUNED),
        ]
        self.events = [_event(number) for number in range(250, 0, -1)]
        self.checkpoints = [_checkpoint(2), _checkpoint(1)]
        self.asked: list[tuple[str, str]] = []
        self.keys: set[str] = set()
        self.before: Callable[[str, str], Answer | None] = lambda method, path: None
        account = self

        class Handler(_Handler):
            def do_GET(self) -> None:
                self.answer(account)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, path: str, query: dict[str, list[str]]) -> Answer:
        match path.removeprefix("/v1").strip("/").split("/"):
            case ["files"]:
                return _page(self.files, query, 10_000)
            case ["files", name]:
                return _one(self.files, name)
            case ["files", name, "content"] if name in self.contents:
                return 200, {"content-type": "application/octet-stream"}, self.contents[name]
            case ["fine_tuning", "jobs"]:
                return _page(self.jobs, query, 20)
            case ["fine_tuning", "jobs", _, "events"]:
                return _page(self.events, query, 20)
            case ["fine_tuning", "jobs", _, "checkpoints"]:
                return _page(self.checkpoints, query, 10)
        return error(404, "No such object")


def job(name: str, **others: Any) -> dict[str, Any]:
    """A job as OpenAI tells it, with its nulls."""
    hyperparameters = {"n_epochs": 4, "batch_size": 2, "learning_rate_multiplier": 1.8}
    told = {
        "object": "fine_tuning.job",
        "id": name,
        "model": MODEL,
        "created_at": 1721764800,
        "finished_at": 1721768800,
        "fine_tuned_model": None,
        "organization_id": "org-123",
        "result_files": [],
        "status": "succeeded",
        "validation_file": None,
        "training_file": "file-train",
        "hyperparameters": hyperparameters,
        "trained_tokens": 5768,
        "error": {},
        "integrations": [],
        "seed": 683058546,
        "user_provided_suffix": "custom suffix",
        "estimated_finish": None,
        "method": {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        "metadata": None,
    }
    return told | others


def error(status: int, message: str, headers: dict[str, str] | None = None) -> Answer:
    told = {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}}
    return status, {"content-type": "application/json"} | (headers or {}), json.dumps(told).encode()


def _file(name: str, filename: str, purpose: str, n_bytes: int) -> dict[str, Any]:
    told = {"id": name, "object": "file", "bytes": n_bytes, "created_at": 1613779121, "filename": filename}
    return told | {"purpose": purpose, "status": "processed", "status_details": None, "expires_at": None}


def _event(number: int) -> dict[str, Any]:
    told = {"object": "fine_tuning.job.event", "id": f"ft-event-{number}", "created_at": 1721764800 + number}
    return told | {"level": "info", "message": f"Step {number}", "data": None, "type": "message"}


def _checkpoint(number: int) -> dict[str, Any]:
    told = {"object": "fine_tuning.job.checkpoint", "id": f"ftckpt_{number}", "created_at": 1721764867}
    metrics = {"full_valid_loss": 0.134, "full_valid_mean_token_accuracy": 0.874}
    more = {"fine_tuned_model_checkpoint": f"{TUNED}:ckpt-step-{number}", "metrics": metrics, "step_number": number}
    return told | more | {"fine_tuning_job_id": "ftjob-done"}


def _page(items: list[dict[str, Any]], query: dict[str, list[str]], default: int) -> Answer:
    limit = int(query.get("limit", [str(default)])[0])
    after = query.get("after", [None])[0]
    begin = next((place for place, item in enumerate(items, start=1) if item["id"] == after), 0)
    told = {"object": "list", "data": items[begin : begin + limit], "has_more": begin + limit < len(items)}
    return 200, {"content-type": "application/json"}, json.dumps(told).encode()


def _one(items: list[dict[str, Any]], name: str) -> Answer:
    for item in items:
        if item["id"] == name:
            return 200, {"content-type": "application/json"}, json.dumps(item).encode()
    return error(404, f"No such File object: {name}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, account: FakeAccount) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        asked = urlsplit(self.path)
        account.asked.append((self.command, self.path))
        account.keys.add(self.headers.get("authorization", "").removeprefix("Bearer "))
        if self.headers.get("authorization") != f"Bearer {KEY}":
            answer = error(401, "Incorrect API key provided: sk-fak**89.")
        else:
            answer = account.before(self.command, asked.path) or account.answer(asked.path, parse_qs(asked.query))
        status, headers, content = answer
        self.send_response(status)
        told = {"content-length": str(len(content))} | headers
        self.close_connection = told["content-length"] != str(len(content))
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass
