"""The service that is shot at: any checkout's `luthier serve` over a copy of one prepared data folder."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from bench.load import wire
from bench.process import ROOT

BASE = "smollm2-135m-instruct"
DEPLOYMENT = "clippy"
ROWS = ROOT / "tests" / "support" / "clippy.jsonl"
PATIENCE_S = 900.0
QUOTAS = ("jobs=100000", "queued_jobs=100000", "files=100000", "file_bytes=1000000000000")
_ACCOUNT = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/luthier"
    "/providers/Microsoft.CognitiveServices/accounts/luthier"
)


@dataclass(frozen=True, slots=True)
class Service:
    """One that runs: its port, its first key, another resource's key, its process, and its data folder."""

    port: int
    key: str
    other_key: str
    process: psutil.Process
    folder: Path

    def ask(self, method: str, path: str, body: Any = None) -> wire.Answer:
        return asyncio.run(wire.ask(self.port, method, path, self.key, body))

    def rss_mib(self) -> float:
        return float(self.process.memory_info().rss) / 2**20

    def engines(self) -> list[psutil.Process]:
        children = self.process.children(recursive=True)
        return [child for child in children if any(word.startswith("luthier.engines.") for word in child.cmdline())]

    def engine_rss_mib(self) -> float:
        return sum(float(engine.memory_info().rss) for engine in self.engines()) / 2**20

    def log_bytes(self) -> int:
        return (self.folder.parent / "serve.log").stat().st_size


class Target:
    """A checkout to be measured; `folder` holds all that it writes."""

    def __init__(self, name: str, checkout: Path, folder: Path) -> None:
        self.name = name
        self._checkout = checkout
        self._folder = folder
        self._template = folder / "template" / "data"

    def prepare(self) -> None:
        """Trains the guide's ten rows and deploys the model, once; every scenario then begins on a copy."""
        if (self._folder / "ready").exists():
            return
        shutil.rmtree(self._folder, ignore_errors=True)
        self._template.mkdir(parents=True)
        with self._running(self._template) as service:
            self._luthier("resources", "quota", "luthier", *(word for each in QUOTAS for word in ("--set", each)))
            made = self._luthier("resources", "create", "other")
            key = re.search(r"[0-9a-f]{32,}|sk-\S+", made)
            assert key is not None, "the command shows the keys of a new resource"
            (self._folder / "other-key").write_text(key[0])
            self._deploy(service, self._train(service))
        (self._folder / "ready").touch()

    @contextmanager
    def running(self) -> Iterator[Service]:
        """A service over a copy of the prepared folder, its engine loaded. Whoever wants to time its end ends it."""
        copy = self._folder / "run" / "data"
        shutil.rmtree(copy.parent, ignore_errors=True)
        shutil.copytree(self._template, copy)
        with self._running(copy) as service:
            question = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
            answer = service.ask("POST", _CHAT, question)
            assert answer.status == 200, answer.body
            yield service

    @contextmanager
    def _running(self, data: Path) -> Iterator[Service]:
        port = _free_port()
        with (data.parent / "serve.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "luthier", "serve", "--port", str(port), "--data-dir", str(data)],
                env=self._environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            _await_health(process, port, data.parent / "serve.log")
            key = (data / "api-key").read_text().strip()
            other = self._folder / "other-key"
            yield Service(port, key, other.read_text() if other.exists() else "", psutil.Process(process.pid), data)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _luthier(self, *arguments: str) -> str:
        env = {**self._environment(), "LUTHIER_DATA_DIR": str(self._template)}
        words = [sys.executable, "-m", "luthier", *arguments]
        return subprocess.run(words, env=env, check=True, capture_output=True, text=True).stdout

    def _environment(self) -> dict[str, str]:
        models = os.environ.get("LUTHIER_MODELS_DIR", str(ROOT / ".cache" / "models"))
        own = {name: value for name, value in os.environ.items() if not name.startswith(("LUTHIER_", "OPENAI_"))}
        return own | {"PYTHONPATH": str(self._checkout / "src"), "LUTHIER_MODELS_DIR": models}

    def _train(self, service: Service) -> str:
        file = upload(service, ROWS.read_bytes())
        body = {"training_file": file, "model": BASE, "seed": 105}
        job = service.ask("POST", "/v1/fine_tuning/jobs", body).json()["id"]
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            state = service.ask("GET", f"/v1/fine_tuning/jobs/{job}").json()
            if state["fine_tuned_model"]:
                return str(state["fine_tuned_model"])
            assert state["status"] not in {"failed", "cancelled"}, state
            time.sleep(1.0)
        raise SystemExit("the ten rows were not trained in time")

    def _deploy(self, service: Service, model: str) -> None:
        path = f"{_ACCOUNT}/deployments/{DEPLOYMENT}?api-version=2024-10-01"
        model_of = {"format": "OpenAI", "name": model, "version": "1"}
        body = {"sku": {"name": "standard", "capacity": 100}, "properties": {"model": model_of}}
        assert service.ask("PUT", path, body).status in {200, 201}
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            state = service.ask("GET", path).json()["properties"]["provisioningState"]
            if state == "Succeeded":
                return
            assert state != "Failed"
            time.sleep(0.5)
        raise SystemExit("the tuned model was not deployed in time")


_CHAT = f"/openai/deployments/{DEPLOYMENT}/chat/completions?api-version=2024-10-21"


def chat_path() -> str:
    """Where the tuned model answers."""
    return _CHAT


def trained() -> list[tuple[list[dict[str, str]], str]]:
    """The ten questions as messages, and the answer that was learned for each."""
    rows = [json.loads(line)["messages"] for line in ROWS.read_text().splitlines()]
    return [(row[:-1], row[-1]["content"]) for row in rows]


def upload(service: Service, content: bytes) -> str:
    """The id of the file."""
    return str(asyncio.run(wire.send(service.port, upload_request(service.key, content))).json()["id"])


def upload_request(key: str, content: bytes, missing_bytes: int = 0) -> bytes:
    """A form with a file; `missing_bytes` are announced and left out at the end."""
    opening = (
        b'--bench\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--bench\r\n'
        b'content-disposition: form-data; name="file"; filename="rows.jsonl"\r\n\r\n'
    )
    form = opening + content + b"\r\n--bench--\r\n"
    kind = "multipart/form-data; boundary=bench"
    opening_line = wire.head("POST", "/v1/files", key, len(form) + missing_bytes, content_type=kind)
    return opening_line + form


def stop_s(service: Service) -> float:
    """SIGTERM, and the seconds until the service is gone."""
    began = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    service.process.wait(120)
    return time.monotonic() - began


def _await_health(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        if asyncio.run(wire.ask(port, "GET", "/healthz")).status == 200:
            return
        time.sleep(0.05)
    raise SystemExit(f"the service did not come up; {log} says:\n{log.read_text(errors='replace')[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((wire.HOST, 0))
        port: int = probe.getsockname()[1]
        return port
