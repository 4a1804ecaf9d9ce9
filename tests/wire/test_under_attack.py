"""The whole service as a process, under what peers can do to it: it answers, stays small, and stops in time."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import pytest

import peers

FORM = {"content_type": "multipart/form-data; boundary=b"}
MIB = 2**20
QUICK = {
    "LUTHIER_CONNECTIONS_PER_ADDRESS": "60",
    "LUTHIER_HEADER_TIMEOUT_S": "1",
    "LUTHIER_BODY_TIMEOUT_S": "1.5",
    "LUTHIER_UPLOADS": "100",
    "LUTHIER_UPLOADS_PER_KEY": "100",
}


@dataclass
class Running:
    url: str
    key: str
    process: psutil.Process
    log: Path

    def ask(self, path: str) -> tuple[int, float]:
        """The status, and the seconds that it took."""
        started = time.monotonic()
        answer = httpx2.get(self.url + path, headers={"api-key": self.key}, timeout=30)
        return answer.status_code, time.monotonic() - started

    def memory_mib(self) -> float:
        held: int = self.process.memory_info().rss
        return held / MIB


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("attacked")
    command = [sys.executable, "-m", "luthier", "serve", "--port", "0", "--data-dir", str(folder / "data")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=os.environ | QUICK, text=True)
    assert process.stdout is not None
    found = next(found for line in process.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
    key = (folder / "data" / "api-key").read_text().strip()
    service = Running(found[0], key, psutil.Process(process.pid), folder / "log")
    for path in ("/v1/files", "/v1/models", "/healthz"):
        service.ask(path)
    yield service
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    process.stdout.close()


def test_service_answers_under_half_heads_beyond_its_limit_and_its_log_stays_short(running: Running) -> None:
    with ExitStack() as open_ones:
        for _ in range(150):
            open_ones.enter_context(peers.asking(running.url, b"GET /healthz HTTP/1.1\r\nx-half: "))
        assert [running.ask(path)[0] for path in ("/healthz", "/v1/files", "/v1/models")] == [200] * 3
        for _ in range(100):
            with peers.asking(running.url, b"\0 no request at all\r\n\r\n") as odd, suppress(OSError):
                odd.recv(100)
    assert running.log.stat().st_size < 5_000


def test_service_answers_beside_uploads_that_send_nothing_and_cuts_them(running: Running) -> None:
    head = peers.head("POST", "/v1/files", running.key, **FORM, content_length=10_000)
    with ExitStack() as open_ones:
        silent = [open_ones.enter_context(peers.asking(running.url, head)) for _ in range(45)]
        taken = [running.ask(path) for path in ("/healthz", "/v1/files", "/v1/models", "/healthz")]
        assert [status for status, _ in taken] == [200] * 4
        assert min(seconds for _, seconds in taken) < 1.5  # by itself it ends none of them before
        assert peers.answer(silent[0])[0] == 408


def test_long_bodies_without_a_key_take_no_memory(running: Running) -> None:
    before, body = running.memory_mib(), b"[" + b"[]," * (31 * MIB // 3) + b"[]]"
    for _ in range(3):
        answer = httpx2.post(f"{running.url}/v1/fine_tuning/jobs", content=body, timeout=30)
        assert answer.status_code == 401
        assert running.memory_mib() < before + 20


def test_bodies_that_stop_short_of_their_end_give_their_memory_back(running: Running) -> None:
    before = running.memory_mib()
    head = peers.head("POST", "/v1/chat/completions", running.key, content_type="a/json", content_length=7 * MIB)
    head = head.replace(b"a/json", b"application/json")
    with ExitStack() as open_ones:
        for _ in range(8):
            peer = open_ones.enter_context(peers.asking(running.url, head))
            with suppress(OSError):
                peer.sendall(b" " * (6 * MIB))
        assert running.memory_mib() < before + 80
        time.sleep(2)
    until = time.monotonic() + 15
    while running.memory_mib() > before + 25 and time.monotonic() < until:
        time.sleep(0.1)
    assert running.memory_mib() < before + 25
