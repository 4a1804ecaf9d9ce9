"""Kubernetes as a launcher, against an API that is faked: what is asked of it, and what its answers mean."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from luthier.core.errors import Unavailable
from luthier.core.training.executor_port import RunNeeds
from luthier.executors import kubernetes
from luthier.executors.kubernetes import KubernetesJobs
from luthier.executors.launcher import Word

TEMPLATE: dict[str, Any] = {
    "kind": "Job",
    "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "training"}},
    "spec": {
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "runner",
                        "image": "luthier:1",
                        "env": [{"name": "LUTHIER_MODELS_DIR", "value": "/m"}],
                    }
                ],
                "nodeSelector": {"pool": "training"},
            }
        }
    },
}


class Api:
    """A namespace's Jobs as the API keeps them; `states` are those of the runner's container by Job."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.states: dict[str, dict[str, Any]] = {}
        self.nodes: list[dict[str, Any]] = []
        self.pods: list[dict[str, Any]] = []
        self.tokens: set[str] = set()
        self.broken = False

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.broken:
            return 500, {"message": "secret words"}
        path, _, query = path.partition("?")
        jobs = "/apis/batch/v1/namespaces/luthier/jobs"
        match method, path:
            case "POST", _ if path == jobs:
                name = body["metadata"]["name"]
                if name in self.jobs:
                    return 409, {"reason": "AlreadyExists"}
                self.jobs[name] = body | {"status": {}}
                return 201, body
            case "GET", _ if path.startswith(jobs):
                job = self.jobs.get(path.rpartition("/")[2])
                return (404, {}) if job is None else (200, job)
            case "DELETE", _ if path.startswith(jobs):
                return (200, {}) if self.jobs.pop(path.rpartition("/")[2], None) else (404, {})
            case "GET", "/api/v1/namespaces/luthier/pods":
                state = self.states.get(query.rpartition("%3D")[2])
                status = {"containerStatuses": [{"name": "runner", "state": state}]} if state is not None else {}
                return 200, {"items": [{"status": status}]}
            case "GET", "/api/v1/nodes":
                return 200, {"items": self.nodes}
            case "GET", "/api/v1/pods":
                return 200, {"items": self.pods}
        return 404, {}


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def launcher(api: Api, tmp_path: Path) -> Iterator[KubernetesJobs]:
    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            api.tokens.add(self.headers.get("authorization", ""))
            status, answer = api.answer(self.command, self.path, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = respond

        def log_message(self, *_: object) -> None:
            """Nothing."""

    (tmp_path / "token").write_text("first\n")
    (tmp_path / "namespace").write_text("luthier")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    made = KubernetesJobs(TEMPLATE, environment={"A": "b"}, grace_s=70, address=address, account=tmp_path)
    yield made
    made.close()
    server.shutdown()
    thread.join()
    server.server_close()


def test_submit_fills_the_template_and_may_be_repeated(api: Api, launcher: KubernetesJobs) -> None:
    needs = RunNeeds(cpus=1.5, gpus=2, memory_bytes=1 << 30, labels={"gpu": "h100"})
    for _ in range(2):
        launcher.submit("ftjob-1-1", "runs/ftjob-1", 1, needs)
    (job,) = api.jobs.values()
    pod = job["spec"]["template"]["spec"]
    (runner,) = pod["containers"]
    assert job["metadata"] == {"labels": {"kueue.x-k8s.io/queue-name": "training"}, "name": "ftjob-1-1"}
    assert (job["spec"]["backoffLimit"], pod["restartPolicy"], pod["terminationGracePeriodSeconds"]) == (0, "Never", 70)
    assert pod["nodeSelector"] == {"pool": "training", "gpu": "h100"}
    assert runner["command"] == ["python", "-m", "luthier.runner", "runs/ftjob-1", "1"]
    assert runner["env"] == [{"name": "LUTHIER_MODELS_DIR", "value": "/m"}, {"name": "A", "value": "b"}]
    assert runner["resources"]["requests"] == {"cpu": "1500m", "memory": "1073741824", "nvidia.com/gpu": "2"}
    assert runner["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert "name" not in TEMPLATE["metadata"]


@pytest.mark.parametrize(
    ("status", "state", "word"),
    [
        ({}, None, Word.WAITING),
        ({"active": 1}, {"waiting": {"reason": "ContainerCreating"}}, Word.WAITING),
        ({"active": 1}, {"running": {}}, Word.RUNNING),
        ({"active": 1}, {"terminated": {"exitCode": 0}}, Word.EXITED),
        ({"conditions": [{"type": "Failed", "status": "True"}]}, {"terminated": {"exitCode": 137}}, Word.EXITED),
        ({"conditions": [{"type": "Failed", "status": "True"}]}, None, Word.LOST),
        ({"conditions": [{"type": "Failed", "status": "False"}]}, {"running": {}}, Word.RUNNING),
    ],
)
def test_only_an_exit_code_is_evidence(
    api: Api, launcher: KubernetesJobs, status: dict[str, Any], state: dict[str, Any] | None, word: Word
) -> None:
    launcher.submit("ftjob-1-1", "runs/ftjob-1", 1, RunNeeds())
    api.jobs["ftjob-1-1"]["status"] = status
    if state is not None:
        api.states["ftjob-1-1"] = state
    assert launcher.word("ftjob-1-1") is word


def test_deleted_job_is_unknown_and_stop_of_it_no_error(api: Api, launcher: KubernetesJobs) -> None:
    launcher.submit("ftjob-1-1", "runs/ftjob-1", 1, RunNeeds())
    for _ in range(2):
        launcher.stop("ftjob-1-1")
    assert launcher.word("ftjob-1-1") is Word.UNKNOWN


def test_token_is_read_anew(api: Api, launcher: KubernetesJobs) -> None:
    launcher.word("ftjob-1-1")
    (launcher.account / "token").write_text("second")
    launcher.word("ftjob-1-1")
    assert api.tokens == {"Bearer first", "Bearer second"}


def test_room_is_what_pods_have_not_requested_on_nodes_that_take_some(api: Api, launcher: KubernetesJobs) -> None:
    def node(name: str, ready: str = "True", **spec: bool) -> dict[str, Any]:
        allocatable = {"cpu": "3920m", "memory": "16Gi", "pods": "110", "nvidia.com/gpu": "1"}
        conditions = [{"type": "Ready", "status": ready}]
        return {
            "metadata": {"name": name, "labels": {"zone": name}},
            "spec": spec,
            "status": {"allocatable": allocatable, "conditions": conditions},
        }

    api.nodes = [node("a"), node("b", ready="Unknown"), node("c", unschedulable=True), node("d")]
    requests = {"cpu": "1", "memory": "512Mi"}
    containers = [{"resources": {"requests": requests}}, {"resources": {}}, {}]
    api.pods = [{"spec": {"nodeName": "a", "containers": containers}}, {"spec": {"containers": containers}}]
    first, second = launcher.nodes()
    assert (first.name, first.gpus, first.memory_bytes, first.runs) == ("a", 1.0, (16 << 30) - (512 << 20), 109)
    assert first.cpus == pytest.approx(2.92)
    assert (second.name, second.labels, second.runs) == ("d", {"zone": "d"}, 110)


def test_api_that_refuses_or_is_silent_is_unavailable(api: Api, launcher: KubernetesJobs) -> None:
    api.broken = True
    with pytest.raises(Unavailable, match="status 500") as raised:
        launcher.submit("ftjob-1-1", "runs/ftjob-1", 1, RunNeeds())
    assert "secret" not in str(raised.value)
    silent = KubernetesJobs(TEMPLATE, address="http://127.0.0.1:9", account=launcher.account)
    with pytest.raises(Unavailable, match="does not answer"):
        silent.nodes()
    silent.close()


@pytest.mark.parametrize("content", ["{", "{}", '{"kind": "Job", "spec": {"template": {"spec": {"containers": []}}}}'])
def test_template_that_is_no_job_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "job.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="LUTHIER_KUBERNETES_JOB"):
        kubernetes.read_template(path)
    path.write_text(json.dumps(TEMPLATE))
    assert kubernetes.read_template(path) == TEMPLATE
