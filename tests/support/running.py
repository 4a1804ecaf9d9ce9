"""A real `luthier serve` for stories: its own process, its own data folder, real trainer and engine behind it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2

from cores import own_cores
from waiting import until

KEY = "story-key-0123456789abcdef"


class Running:
    """Starts, kills and starts again one service over one data folder."""

    def __init__(self, data: Path, models: Path) -> None:
        self.data = data
        # Threads of two trainers that share cores wait for one another: both take three times as long.
        threads = {"LUTHIER_TRAIN_THREADS": str(own_cores()), "LUTHIER_SERVE_THREADS": str(own_cores())}
        self.environment = os.environ | {"LUTHIER_SERVER_KEY": KEY, "LUTHIER_MODELS_DIR": str(models)} | threads
        self.url = ""
        self.said = ""
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Starts the service and returns when it answers."""
        command = [sys.executable, "-m", "luthier", "serve", "--port", "0", "--data-dir", str(self.data), "-v"]
        with (self.data.parent / "service.log").open("a") as log:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=self.environment
            )
        assert self._process.stdout is not None
        self.said = ""
        for line in self._process.stdout:
            self.said += line
            if line.startswith("export AZURE_OPENAI_ENDPOINT="):
                self.url = line.strip().partition("=")[2]
            if line.startswith("API description"):
                return
        raise AssertionError((self.data.parent / "service.log").read_text())

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """kill -9, as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._end()

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._end()

    def _end(self) -> int:
        assert self._process is not None
        status = self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._process = None
        return status

    def close(self) -> None:
        if self._process is not None:
            self.stop()

    def control(self, method: str, name: str, body: object = None) -> httpx2.Response:
        """One call to the control plane's deployments of the default resource."""
        path = (
            "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/luthier"
            f"/providers/Microsoft.CognitiveServices/accounts/luthier/deployments/{name}"
        )
        headers = {"Authorization": f"Bearer {KEY}"}
        params = {"api-version": "2024-10-21"}
        return httpx2.request(method, self.url + path, params=params, headers=headers, json=body, timeout=60)

    def deploy(self, name: str, model: str) -> dict[str, object]:
        """Deploys and waits; returns the properties of the ended deployment."""
        body = {
            "sku": {"name": "standard", "capacity": 1},
            "properties": {"model": {"format": "OpenAI", "name": model, "version": "1"}},
        }
        assert self.control("PUT", name, body).status_code in {200, 201}
        properties: dict[str, object] = {}

        def ended() -> bool:
            properties.update(self.control("GET", name).json()["properties"])
            return properties["provisioningState"] != "Creating"

        until(ended, 120)
        return properties
