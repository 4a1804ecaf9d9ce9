"""What `luthier serve` says at its start and in its log: addresses that work, what is missing, each step once."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

import rows
from fakes import KEY
from luthier.cli.serve import address

MARK = "marked-by-a-user"


class Run:
    """A service of this test, on a port of the system's choice; what it prints at its start, and its log."""

    def __init__(self, folder: Path, *options: str, **variables: str) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LUTHIER_")}
        command = [sys.executable, "-m", "luthier", "serve", "--port", "0", "--data-dir", str(folder / "d"), *options]
        self.log = folder / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
                env=kept | {"LUTHIER_SERVER_KEY": KEY, **variables},
            )
        assert self.process.stdout is not None
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if line.startswith("API description"):
                break
        self.url = self.said.partition("export AZURE_OPENAI_ENDPOINT=")[2].splitlines()[0]

    def upload(self) -> None:
        files = {"file": (f"{MARK}.jsonl", rows.good().replace(b"?", MARK.encode()))}
        sent = httpx2.post(f"{self.url}/v1/files", headers={"api-key": KEY}, files=files, data={"purpose": "fine-tune"})
        assert sent.status_code == 200, sent.text

    def stop(self) -> str:
        self.process.send_signal(signal.SIGINT)
        assert self.process.stdout is not None
        self.process.stdout.close()
        assert self.process.wait(30) == 0
        return self.log.read_text()


def test_start_on_every_address_tells_one_that_works_and_what_is_missing_and_logs_each_step(tmp_path: Path) -> None:
    running = Run(tmp_path, "--host", "0.0.0.0", LUTHIER_DATADIR="x")
    assert running.url.startswith("http://127.0.0.1:")
    assert "From other machines: http://" in running.said
    assert f"export LUTHIER_URL={running.url}" in running.said
    assert "No base model is installed yet. Run: luthier models pull smollm2" in running.said
    running.upload()
    assert httpx2.get(f"{running.url}/v1/files", headers={"api-key": MARK}).status_code == 401
    log = running.stop()
    for line in (
        " INFO luthier.cli.serve service started version=",
        " WARNING luthier.cli.serve no base model is installed: run luthier models pull",
        " WARNING luthier.cli.serve LUTHIER_DATADIR is no setting (did you mean LUTHIER_DATA_DIR?)",
        " INFO luthier.service.files.files file stored id=file-",
        " INFO luthier.api.server.refusals refused status=401 code=invalid_api_key id=",
        " INFO luthier.cli.serve service stopped",
    ):
        assert line in log, line
    assert " luthier.api.http.request_log request " not in log, "requests are for -v"
    assert MARK not in log
    assert KEY not in log


def test_log_is_json_and_quieter_where_that_is_set(tmp_path: Path) -> None:
    running = Run(tmp_path, "-v", LUTHIER_LOG_FORMAT="json")
    running.upload()
    lines = [json.loads(line) for line in running.stop().splitlines()]
    assert all(set(line) >= {"time", "level", "logger", "message"} for line in lines)
    [uploaded] = [line for line in lines if line["logger"] == "luthier.api.http.request_log"]
    assert (uploaded["event"], uploaded["method"], uploaded["route"], uploaded["status"]) == (
        "request",
        "POST",
        "/v1/files",
        200,
    )
    assert len(uploaded["id"]) == 32
    assert 0 < uploaded["ms"] < 60_000
    assert MARK not in str(lines)
    running = Run(tmp_path, LUTHIER_LOG_LEVEL="error")
    running.upload()
    assert running.stop() == ""


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("::1", "http://[::1]:8000"),
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("box.lan", "http://box.lan:8000"),
    ],
)
def test_address_that_is_told_leads_to_the_service(host: str, url: str) -> None:
    assert address(host, 8000) == url


def test_address_that_is_not_of_this_machine_is_told_as_one(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "luthier", "serve", "--host", "192.0.2.1", "--port", "0"]
    done = subprocess.run(
        [*command, "--data-dir", str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "this machine has no address 192.0.2.1." in done.stderr
