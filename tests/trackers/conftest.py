"""The trackers themselves, in an environment of their own, as `make test-trackers` makes it."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from repository import ROOT
from waiting import until

ENVIRONMENT = Path(os.environ.get("TRACKERS_ENV", ROOT / ".cache" / "trackers"))


@pytest.fixture(scope="session")
def python() -> str:
    """The environment's interpreter."""
    program = ENVIRONMENT / "bin" / "python"
    if not program.exists():
        pytest.skip(f"the trackers are not at {ENVIRONMENT}: run `make test-trackers`")
    return str(program)


@pytest.fixture
def mlflow_uri(python: str, tmp_path: Path) -> Iterator[str]:
    """A server of MLflow's own on loopback, with a database of its own."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [python, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "PATH": f"{ENVIRONMENT}/bin:{os.environ['PATH']}",
    }
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | quiet
    with (tmp_path / "mlflow.log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=tmp_path, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    uri = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert server.poll() is None, (tmp_path / "mlflow.log").read_text()
        try:
            return httpx2.get(f"{uri}/health", timeout=5).status_code == 200
        except httpx2.HTTPError:
            return False

    until(answers, 120, 0.2)
    yield uri
    os.killpg(server.pid, 15)
    server.wait(60)
