"""Ray Jobs as the launcher of remote runs, over Ray's REST API (read from and tried with ray 2.60.0); no ray here.

Ray places a runner and can end it. What it says of one is an opinion (docs/ray.md): remote_runs.py judges.
"""

import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from luthier.core.errors import Unavailable
from luthier.core.training.executor_port import NodeRoom, RunNeeds
from luthier.executors.launcher import Word

TIMEOUT = httpx2.Timeout(10.0, connect=2.0)
REST_S = 3.0
"""For so long after a call without an answer further ones fail at once: a tick has many, and each would wait."""
SHIPPING_GRACE_S = 40.0
"""What a runner gets beyond its trainer's grace to ship the last state, before Ray kills it."""

_SUBMITTED = "already exists"
"""In Ray's error for a submission id that was used; its status is 500 outside and 400 inside."""
_WORDS = {"PENDING": Word.WAITING, "RUNNING": Word.RUNNING}


@dataclass
class RayJobs:
    """Implements executors.launcher.Launcher by Ray's Jobs API. `address` is that of the head's dashboard.

    `python` is the nodes' Python with Luthier; `environment` what a runner gets beyond the node's own variables: no
    secrets, Ray shows them. `stop_grace_s` is the trainer's.
    """

    address: str
    token: str = field(repr=False, default="")
    python: str = "python"
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_grace_s: float = 20.0
    clock: Callable[[], float] = time.monotonic
    name: str = field(init=False, default="ray")
    _client: httpx2.Client = field(init=False)
    _silent_until: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        self._client = httpx2.Client(base_url=self.address, headers=headers, timeout=TIMEOUT, trust_env=False)

    def close(self) -> None:
        """Closes its connections; no call may follow."""
        self._client.close()

    def submit(self, id: str, run_key: str, attempt: int, needs: RunNeeds) -> None:
        """POSTs the job, with CPUs always: without any resource Ray would run it on the head. Raises Unavailable."""
        grace_s = int(self.stop_grace_s + SHIPPING_GRACE_S)
        body: dict[str, object] = {
            "submission_id": id,
            "entrypoint": f"exec {shlex.quote(self.python)} -m luthier.runner {shlex.quote(run_key)} {attempt}",
            "entrypoint_num_cpus": needs.cpus,
            "runtime_env": {"env_vars": {**self.environment, "RAY_JOB_STOP_WAIT_TIME_S": str(grace_s)}},
        }
        if needs.gpus:
            body["entrypoint_num_gpus"] = needs.gpus
        if needs.memory_bytes:
            body["entrypoint_memory"] = needs.memory_bytes
        if needs.labels:
            body["entrypoint_label_selector"] = dict(needs.labels)
        answer = self._call("POST", "/api/jobs/", body)
        if answer.is_error and _SUBMITTED not in answer.text:
            raise _refused(answer)

    def word(self, id: str) -> Word:
        """GETs the job. Only an exit code makes it EXITED: Ray's FAILED has been wrong without one."""
        answer = self._call("GET", f"/api/jobs/{id}")
        if answer.status_code == 404:
            return Word.UNKNOWN
        if answer.is_error:
            raise _refused(answer)
        job = answer.json()
        if job.get("driver_exit_code") is not None:
            return Word.EXITED
        return _WORDS.get(str(job.get("status")), Word.LOST)

    def stop(self, id: str) -> None:
        """POSTs the stop; Ray sends SIGTERM to the runner and its trainer, SIGKILL after the grace of `submit`."""
        answer = self._call("POST", f"/api/jobs/{id}/stop")
        if answer.is_error and answer.status_code != 404:
            raise _refused(answer)

    def nodes(self) -> Sequence[NodeRoom]:
        """The living nodes with CPUs by the dashboard's summary, whose usage is up to some five seconds old."""
        answer = self._call("GET", "/nodes?view=summary")
        if answer.is_error:
            raise _refused(answer)
        data = answer.json()["data"]
        usage: Mapping[str, str] = data.get("nodeLogicalResources") or {}
        rooms = []
        for node in data["summary"]:
            raylet = node["raylet"]
            if raylet.get("state") == "ALIVE" and raylet["resourcesTotal"].get("CPU"):
                rooms.append(_room(node, raylet, _used(usage.get(raylet["nodeId"], ""))))
        return rooms

    def _call(self, method: str, path: str, body: Mapping[str, object] | None = None) -> httpx2.Response:
        """Ray's answer, whatever its status. Raises Unavailable without one, and for some seconds after that."""
        if self.clock() < self._silent_until:
            raise _silent()
        try:
            return self._client.request(method, path, json=body)
        except httpx2.HTTPError as error:
            self._silent_until = self.clock() + REST_S
            raise _silent() from error


def _room(node: Mapping[str, Any], raylet: Mapping[str, Any], used: Mapping[str, float]) -> NodeRoom:
    """A node's free part: totals less what is used of them; bytes for memory."""
    total = raylet["resourcesTotal"]
    free = {name: max(0.0, float(total.get(name, 0)) - used.get(name, 0.0)) for name in ("CPU", "GPU", "memory")}
    labels = {str(name): str(value) for name, value in (raylet.get("labels") or {}).items()}
    name = str(raylet.get("nodeName") or node.get("ip"))
    holds = RunNeeds(float(total["CPU"]), float(total.get("GPU", 0)), int(total.get("memory", 0)), labels)
    return NodeRoom(name, free["CPU"], free["GPU"], int(free["memory"]), labels, holds=holds)


_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def _used(text: str) -> dict[str, float]:
    """What is used of each resource, from the summary's lines such as `1.0/2.0 CPU` and `0B/21.72GiB memory`."""
    used = {}
    for line in text.splitlines():
        amount, _, rest = line.strip().partition("/")
        name = rest.split(" ")[1] if " " in rest else ""
        unit = next((unit for unit in sorted(_UNITS, key=len, reverse=True) if amount.endswith(unit)), "")
        try:
            used[name] = float(amount.removesuffix(unit)) * _UNITS.get(unit, 1)
        except ValueError:
            continue  # a line of another form: the scheduler's own refusal to place is what remains
    return used


def _silent() -> Unavailable:
    return Unavailable("ray_unavailable", "Ray's head does not answer (LUTHIER_RAY_ADDRESS).")


def _refused(answer: httpx2.Response) -> Unavailable:
    """The error for an answer that is none: its status only, since the text may repeat a request."""
    return Unavailable("ray_unavailable", f"Ray's head refused a request with status {answer.status_code}.")
