"""A Ray head as its Jobs API shows it, with real processes behind: what ray 2.60.0 was seen to answer.

Each job is a `sh -c` in a session of its own; stop is SIGTERM to all of it, SIGKILL after RAY_JOB_STOP_WAIT_TIME_S (3).
`lies`, `forget` and `silent` are the faults that real heads have shown.
"""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import psutil

GIB = 1 << 30


@dataclass
class FakeJob:
    body: dict[str, Any]
    process: subprocess.Popen[bytes] | None
    stopped: bool = False

    def status(self) -> tuple[str, int | None]:
        if self.process is None:
            return "PENDING", None
        code = self.process.poll()
        if self.stopped:
            return ("RUNNING" if code is None else "STOPPED"), None
        if code is None:
            return "RUNNING", None
        return ("SUCCEEDED" if code == 0 else "FAILED"), code if code >= 0 else 128 - code


@dataclass
class FakeRay:
    """Serves on a free port of this machine; as a context it ends all of its processes."""

    environment: dict[str, str] = field(default_factory=dict)
    token: str = ""
    cpus: float = 2.0
    lies: dict[str, str] = field(default_factory=dict)
    """By submission id, the status that is told instead of the true one, without an exit code."""
    silent: bool = False
    """Whether connections are closed without an answer."""
    queues: bool = False
    """Whether new jobs stay PENDING."""
    jobs: dict[str, FakeJob] = field(default_factory=dict)
    usage: str | None = None
    clients: list[Callable[[], None]] = field(default_factory=list)
    """What closes the connections of those that have asked."""

    def __enter__(self) -> Self:
        ray: FakeRay = self

        class Handler(_Handler):
            head = ray

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for id in list(self.jobs):
            self.kill(id)
        for close in self.clients:
            close()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def forget(self) -> None:
        """As a head that was replaced: no job is known; the processes live on."""
        self.old = self.jobs
        self.jobs = {}

    def processes(self, id: str) -> list[psutil.Process]:
        """The job's shell and all that it has started, parents first."""
        process = self.jobs[id].process
        if process is None or process.poll() is not None:
            return []
        shell = psutil.Process(process.pid)
        return [shell, *shell.children(recursive=True)]

    def kill(self, id: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Ends a node's work on a job: all of its processes at once."""
        for process in self.processes(id):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        if number == signal.SIGKILL and (process := self.jobs[id].process) is not None:
            process.wait()

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        parts = path.strip("/").split("/")
        if method == "POST" and path == "/api/jobs/":
            return self._submit(body)
        if path.startswith("/nodes"):
            return 200, self._nodes()
        job = self.jobs.get(parts[2])
        if job is None:
            return 404, f"Job {parts[2]} does not exist"
        if method == "POST" and parts[-1] == "stop":
            return 200, {"stopped": self._stop(parts[2], job)}
        status, code = job.status()
        if parts[2] in self.lies:
            status, code = self.lies[parts[2]], None
        return 200, {"submission_id": parts[2], "status": status, "driver_exit_code": code}

    def _submit(self, body: dict[str, Any]) -> tuple[int, Any]:
        id = body["submission_id"]
        if id in self.jobs:
            return 500, f"ValueError: Job with submission_id {id} already exists. Please use a different submission_id."
        process = None
        if not self.queues:
            process = subprocess.Popen(
                body["entrypoint"],
                shell=True,
                start_new_session=True,
                env={**_node_environment(), **self.environment, **body["runtime_env"]["env_vars"]},
            )
        self.jobs[id] = FakeJob(body, process)
        return 200, {"job_id": id, "submission_id": id}

    def _stop(self, id: str, job: FakeJob) -> bool:
        if job.process is None or job.process.poll() is not None:
            return False
        job.stopped = True
        wait_s = float(job.body["runtime_env"]["env_vars"].get("RAY_JOB_STOP_WAIT_TIME_S", 3))
        ending = self.processes(id)
        for process in ending:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGTERM)

        def kill_late() -> None:
            deadline = time.monotonic() + wait_s
            while time.monotonic() < deadline and any(process.is_running() for process in ending):
                time.sleep(0.05)
            for process in ending:
                with suppress(psutil.NoSuchProcess):
                    process.kill()

        threading.Thread(target=kill_late, daemon=True).start()
        return True

    def _nodes(self) -> dict[str, Any]:
        running = [job for job in self.jobs.values() if job.status()[0] == "RUNNING"]
        used = sum(job.body["entrypoint_num_cpus"] for job in running)
        node = {
            "nodeId": "a",
            "nodeName": "10.0.0.1",
            "state": "ALIVE",
            "labels": {"zone": "one"},
            "resourcesTotal": {"CPU": self.cpus, "memory": 4.0 * GIB, "node:10.0.0.1": 1.0},
        }
        gone = {**node, "nodeId": "b", "state": "DEAD"}
        usage = self.usage or f"{used}/{self.cpus} CPU\n1.00GiB/4.00GiB memory\n0B/75.00MiB object_store_memory"
        summary = [{"raylet": node}, {"raylet": gone}]
        return {"result": True, "data": {"summary": summary, "nodeLogicalResources": {"a": usage}}}


def _node_environment() -> dict[str, str]:
    """This process's own, but for the settings of a service: a node has none."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LUTHIER_")}


class _Handler(BaseHTTPRequestHandler):
    head: FakeRay

    def do_GET(self) -> None:
        self._respond()

    def do_POST(self) -> None:
        self._respond()

    def _respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.head.silent:
            self.close_connection = True
            self.connection.close()
            return
        if self.head.token and self.headers.get("authorization") != f"Bearer {self.head.token}":
            status, answer = 401, "Unauthorized: Missing authentication token"
        else:
            status, answer = self.head.answer(self.command, self.path, json.loads(body) if body else None)
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        return
