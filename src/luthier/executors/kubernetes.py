"""Kubernetes Jobs as the launcher of remote runs, by the cluster's API from within a pod. Tried with a faked API only.

Facts of the API: kubernetes.io/docs/concepts/workloads/controllers/job and the API reference of batch/v1 and core/v1.
"""

import copy
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2

from luthier.core.errors import Unavailable
from luthier.core.training.executor_port import NodeRoom, RunNeeds
from luthier.executors.launcher import Word

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod has the token, the authority and the namespace of its service account."""
CONTAINER = "runner"
"""The container of the template that becomes the runner."""
TIMEOUT = httpx2.Timeout(10.0, connect=2.0)

_UNITS = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12} | {
    f"{letter}i": 1024.0**power for power, letter in enumerate("KMGT", 1)
}


def read_template(path: Path) -> dict[str, Any]:
    """The Job of a file (JSON, which is YAML too): image, secrets, volumes, a queue's label. Raises ValueError."""
    try:
        job: dict[str, Any] = json.loads(path.read_bytes())
        containers = job["spec"]["template"]["spec"]["containers"]
        names = [container["name"] for container in containers]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"LUTHIER_KUBERNETES_JOB: {path} is no Job in JSON ({type(error).__name__})") from error
    if job.get("kind") != "Job" or CONTAINER not in names:
        raise ValueError(f"LUTHIER_KUBERNETES_JOB: {path} must be of kind Job with a container named {CONTAINER}")
    return job


@dataclass
class KubernetesJobs:
    """Implements executors.launcher.Launcher. A run is a Job made from `template`, whose pod is never restarted.

    `python` is the image's Python with Luthier; `environment` what a runner gets beyond the template's own variables.
    `grace_s` is the time between SIGTERM and SIGKILL.
    """

    template: Mapping[str, Any]
    python: str = "python"
    environment: Mapping[str, str] = field(default_factory=dict)
    grace_s: float = 60.0
    address: str = ""
    account: Path = ACCOUNT
    name: str = field(init=False, default="kubernetes")
    _client: httpx2.Client = field(init=False)
    _namespace: str = field(init=False)

    def __post_init__(self) -> None:
        """Raises ValueError outside of a pod that has a service account."""
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not self.address and not host:
            raise ValueError("LUTHIER_EXECUTOR=kubernetes works in a pod of the cluster: there is no service account")
        address = self.address or f"https://{f'[{host}]' if ':' in str(host) else host}:{port}"
        authority = self.account / "ca.crt"
        verify = str(authority) if authority.exists() else True
        self._client = httpx2.Client(base_url=address, timeout=TIMEOUT, verify=verify, trust_env=False)
        self._namespace = (self.account / "namespace").read_text().strip()

    def close(self) -> None:
        """Closes its connections; no call may follow."""
        self._client.close()

    def submit(self, id: str, run_key: str, attempt: int, needs: RunNeeds) -> None:
        """POSTs the Job; 409 is one of that name, which was submitted before. Raises Unavailable."""
        answer = self._call("POST", self._jobs(), self._job(id, run_key, attempt, needs))
        if answer.is_error and answer.status_code != 409:
            raise _refused(answer)

    def word(self, id: str) -> Word:
        """GETs the Job and its pods: a container's exit code makes it EXITED; a Job that failed without one is LOST."""
        answer = self._call("GET", self._jobs(id))
        if answer.status_code == 404:
            return Word.UNKNOWN
        status = _json(answer).get("status") or {}
        ended = {one["type"] for one in status.get("conditions") or () if one.get("status") == "True"}
        pods = _json(
            self._call("GET", f"/api/v1/namespaces/{self._namespace}/pods?labelSelector=job-name%3D{quote(id)}")
        )
        states = [state for pod in pods["items"] for state in _container_states(pod)]
        if any((state.get("terminated") or {}).get("exitCode") is not None for state in states):
            return Word.EXITED
        if ended & {"Complete", "Failed", "FailureTarget"}:
            return Word.LOST
        return Word.RUNNING if any("running" in state for state in states) else Word.WAITING

    def stop(self, id: str) -> None:
        """Deletes the Job and with it its pod, which gets SIGTERM and, after the grace, SIGKILL."""
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        answer = self._call("DELETE", self._jobs(id), body)
        if answer.is_error and answer.status_code != 404:
            raise _refused(answer)

    def nodes(self) -> Sequence[NodeRoom]:
        """The schedulable nodes, each with what the pods on it have not requested (a ClusterRole must allow both)."""
        nodes = _json(self._call("GET", "/api/v1/nodes"))["items"]
        active = "/api/v1/pods?fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed"
        pods = _json(self._call("GET", active))["items"]
        return [_room(node, pods) for node in nodes if _takes_pods(node)]

    def _job(self, id: str, run_key: str, attempt: int, needs: RunNeeds) -> dict[str, Any]:
        """The template with name, command, variables, resources and labels of a run filled in."""
        job = copy.deepcopy(dict(self.template))
        job.setdefault("apiVersion", "batch/v1")
        job.setdefault("metadata", {})["name"] = id
        job["spec"] |= {"backoffLimit": 0, "completions": 1, "parallelism": 1}
        pod = job["spec"]["template"]["spec"]
        pod |= {"restartPolicy": "Never", "terminationGracePeriodSeconds": int(self.grace_s)}
        if needs.labels:
            pod["nodeSelector"] = {**(pod.get("nodeSelector") or {}), **needs.labels}
        (runner,) = (container for container in pod["containers"] if container["name"] == CONTAINER)
        runner["command"] = [self.python, "-m", "luthier.runner", run_key, str(attempt)]
        variables = [{"name": name, "value": value} for name, value in self.environment.items()]
        runner["env"] = [*(runner.get("env") or ()), *variables]
        requests = {"cpu": f"{round(needs.cpus * 1000)}m"}
        requests |= {"memory": str(needs.memory_bytes)} if needs.memory_bytes else {}
        limits = {"nvidia.com/gpu": str(round(needs.gpus))} if needs.gpus else {}
        resources = runner.setdefault("resources", {})
        resources["requests"] = {**(resources.get("requests") or {}), **requests, **limits}
        resources["limits"] = {**(resources.get("limits") or {}), **limits}
        return job

    def _jobs(self, id: str = "") -> str:
        return f"/apis/batch/v1/namespaces/{self._namespace}/jobs" + (f"/{quote(id)}" if id else "")

    def _call(self, method: str, path: str, body: object = None) -> httpx2.Response:
        """The API's answer, whatever its status; the token is read anew, as the cluster renews it."""
        token = (self.account / "token").read_text().strip()
        try:
            return self._client.request(method, path, json=body, headers={"Authorization": f"Bearer {token}"})
        except httpx2.HTTPError as error:
            raise Unavailable("kubernetes_unavailable", "The API of Kubernetes does not answer.") from error


def _container_states(pod: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """The states of the pod's runner: one, or none before it was placed."""
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return [status.get("state") or {} for status in statuses if status["name"] == CONTAINER]


def _takes_pods(node: Mapping[str, Any]) -> bool:
    """Whether the node is ready and not cordoned."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    is_ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return is_ready and not (node.get("spec") or {}).get("unschedulable")


def _room(node: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> NodeRoom:
    """What a node can allocate, less the requests of the pods on it."""
    name, labels = node["metadata"]["name"], node["metadata"].get("labels") or {}
    whole = {resource: _number(amount) for resource, amount in node["status"]["allocatable"].items()}
    free = dict(whole)
    for pod in pods:
        if pod["spec"].get("nodeName") == name:
            for container in pod["spec"]["containers"]:
                for resource, amount in ((container.get("resources") or {}).get("requests") or {}).items():
                    free[resource] = free.get(resource, 0.0) - _number(amount)
    return NodeRoom(
        name,
        cpus=max(0.0, free.get("cpu", 0.0)),
        gpus=max(0.0, free.get("nvidia.com/gpu", 0.0)),
        memory_bytes=max(0, int(free.get("memory", 0.0))),
        labels=labels,
        runs=max(0, int(free["pods"]) - sum(pod["spec"].get("nodeName") == name for pod in pods)),
        holds=RunNeeds(whole["cpu"], whole.get("nvidia.com/gpu", 0.0), int(whole["memory"]), labels),
    )


def _number(amount: str) -> float:
    """A quantity of Kubernetes: `500m`, `16Gi`, `2`."""
    match = re.fullmatch(r"([0-9.]+(?:[eE][0-9]+)?)([A-Za-z]*)", amount)
    if match is None or match[2] not in _UNITS:
        return 0.0
    return float(match[1]) * _UNITS[match[2]]


def _json(answer: httpx2.Response) -> Any:
    """The object of an answer. Raises Unavailable for an error."""
    if answer.is_error:
        raise _refused(answer)
    return answer.json()


def _refused(answer: httpx2.Response) -> Unavailable:
    """The error for an answer that is none: its status only, since the text may repeat a request."""
    text = f"The API of Kubernetes refused a request with status {answer.status_code}."
    return Unavailable("kubernetes_unavailable", text)
