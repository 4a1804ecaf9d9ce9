"""What the campaign of kills shoots at: a real service over a folder of its own, its trainers, its jobs."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil
from openai import OpenAI

import rows
from luthier.core.states import TERMINAL_JOB_STATUSES
from luthier.run_directory.run_directory import RunDirectory
from repository import CLIPPY

EMBEDDED = "smollm2-135m-instruct"
TINY = "tiny-random"
_KEY = "campaign-key-0123456789"
_SAVE_INTERVAL_S = "0.5"
_CATALOG = """
[[model]]
name = "{name}"
title = "Tiny random Llama"
parameters = "0.1M"
licence = "Apache-2.0"
released = 1760000000
context_tokens = 512
learning_rate = 1e-2
lora = {{ rank = 4, alpha = 8, targets = ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"] }}
source = {{ kind = "folder", path = {path} }}
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """A job that is trained again and again."""

    model: str
    rows: bytes
    n_epochs: int
    batch_size: int
    seed: int


KINDS = {
    "tiny, epochs": Kind(TINY, rows.good(60), n_epochs=12, batch_size=10, seed=11),
    "embedded": Kind(EMBEDDED, CLIPPY.read_bytes(), n_epochs=2, batch_size=5, seed=105),
    "tiny, long": Kind(TINY, rows.good(600), n_epochs=2, batch_size=3, seed=12),
}
_VALIDATION = rows.good(4)


class Target:
    """Starts, kills and asks the service; `folder` holds all that it writes."""

    def __init__(self, folder: Path, models: Path, tiny_source: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._models = models
        self._tiny_source = tiny_source
        self._service: subprocess.Popen[str] | None = None
        self._files: dict[bytes, str] = {}
        self._log: IO[str] = (folder / "service.log").open("a")
        self._environment = os.environ | {
            "LUTHIER_SERVER_KEY": _KEY,
            "LUTHIER_MODELS_DIR": str(folder / "models"),
            "LUTHIER_CATALOG": str(folder / "catalog.toml"),
            "LUTHIER_SAVE_INTERVAL_S": _SAVE_INTERVAL_S,
            # Two threads would wait for one another wherever the machine has something else to do.
            "LUTHIER_TRAIN_THREADS": "1",
        }

    def prepare(self) -> None:
        """Puts both base models in place and starts the service."""
        (self.folder / "catalog.toml").write_text(_CATALOG.format(name=TINY, path=json.dumps(str(self._tiny_source))))
        (self.folder / "models").mkdir()
        (self.folder / "models" / EMBEDDED).symlink_to(self._models / EMBEDDED)
        self._luthier("models", "pull", TINY).communicate()
        self.start_service()

    def start_service(self) -> None:
        """Returns when it answers."""
        self._service = self._luthier("serve", "--port", "0", "--data-dir", str(self.data), "-v")
        assert self._service.stdout is not None
        for line in self._service.stdout:
            if line.startswith("export OPENAI_BASE_URL="):
                self._client = OpenAI(base_url=line.strip().partition("=")[2], api_key=_KEY)
            if line.startswith("API description"):
                return
        raise RuntimeError(f"the service did not start: {self.folder / 'service.log'}")

    def kill_service(self) -> None:
        assert self._service is not None
        self._service.kill()
        self._service.communicate()

    def trainers(self) -> list[tuple[RunDirectory, psutil.Process]]:
        """Every living trainer of this service, whoever started it, and its run."""
        found = []
        for process in psutil.process_iter(["cmdline", "status"]):
            line = process.info["cmdline"] or [""]
            if line[-1].startswith(f"{self.data}/runs/") and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append((RunDirectory(Path(line[-1])), process))
        return found

    def create(self, kind: Kind) -> str:
        training, validation = self._upload("train.jsonl", kind.rows), self._upload("valid.jsonl", _VALIDATION)
        return self._client.fine_tuning.jobs.create(
            model=kind.model,
            seed=kind.seed,
            hyperparameters={"n_epochs": kind.n_epochs, "batch_size": kind.batch_size},
            training_file=training,
            validation_file=validation,
        ).id

    def _upload(self, name: str, content: bytes) -> str:
        """The id of a file; each is sent once, for a resource holds a hundred and every job adds its results."""
        if content not in self._files:
            self._files[content] = self._client.files.create(file=(name, content), purpose="fine-tune").id
        return self._files[content]

    def open_jobs(self) -> list[str]:
        return [job.id for job in self._client.fine_tuning.jobs.list() if job.status not in TERMINAL_JOB_STATUSES]

    def wait_for_all(self, limit_s: float) -> None:
        deadline = time.monotonic() + limit_s
        while self.open_jobs() and time.monotonic() < deadline:
            time.sleep(0.5)

    @property
    def client(self) -> OpenAI:
        return self._client

    def close(self) -> None:
        """Ends the service and with it its trainer."""
        if self._service is not None and self._service.poll() is None:
            self._service.terminate()
            self._service.communicate()
        self._log.close()

    def _luthier(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "luthier", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, text=True, env=self._environment)
