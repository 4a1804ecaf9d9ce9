"""One installation in several processes, on a tiny base model: API processes and supervisors over one data folder."""

import hashlib
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openai import OpenAI

import tiny
from luthier.engines.gguf import export
from luthier.trainer.model import prepare
from running import KEY
from waiting import until

ENTRY = f"""
[[model]]
name = "{tiny.NAME}"
title = "Tiny"
parameters = "0.1M"
licence = "Apache-2.0"
released = 1
context_tokens = 512
learning_rate = 1e-2
lora = {{ rank = 4, alpha = 8, targets = ["q_proj", "v_proj"] }}
source = {{ kind = "folder", path = "." }}
"""
LEASE_S = 1.0
"""As short as it may be: a supervisor that was paused is replaced after that."""


@dataclass
class Process:
    """One process of the installation, and what it has printed first."""

    popen: "subprocess.Popen[str]"
    said: str

    @property
    def url(self) -> str:
        return self.said.rpartition("=")[2].strip()

    def end(self, number: int) -> int:
        """Sends the signal and waits for the process's end."""
        self.popen.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        status = self.popen.wait(60)
        assert self.popen.stdout is not None
        self.popen.stdout.close()
        return status

    def line(self) -> str:
        """The next line that it prints."""
        assert self.popen.stdout is not None
        return self.popen.stdout.readline()


@dataclass
class Split:
    """Starts the processes; `close` kills what is left of them."""

    data: Path
    environment: dict[str, str]
    processes: list[Process] = field(default_factory=list)
    before: tuple[str, ...] = ()
    """Of each command: a program that runs it, as `unshare`."""
    clients: list[OpenAI] = field(default_factory=list)

    def api(self) -> Process:
        """An API process, once it answers."""
        return self._start("export AZURE_OPENAI_ENDPOINT=", "serve", "--no-supervisor", "--port", "0")

    def supervisor(self, says: str = "Supervising") -> Process:
        """A process of `luthier supervise`, once it has said whether it works or waits."""
        return self._start(says, "supervise")

    def engine_host(self, *options: str) -> Process:
        """A host of engines, once API processes can find it."""
        return self._start("Engine host at ", "engine-host", "--port", "0", *options)

    def client(self, api: Process) -> OpenAI:
        self.clients.append(OpenAI(base_url=f"{api.url}/v1", api_key=KEY, max_retries=0))
        return self.clients[-1]

    def rows(self) -> list[str]:
        """Every row of the database, in SQL, without heartbeats and the time of the last housekeeping."""
        with closing(sqlite3.connect(self.data / "luthier.db")) as database:
            return [
                line
                for line in database.iterdump()
                if not line.startswith(('INSERT INTO "leases"', 'INSERT INTO "inst'))
            ]

    def log(self) -> str:
        return (self.data.parent / "processes.log").read_text()

    def close(self) -> None:
        for client in self.clients:
            client.close()
        for process in self.processes:
            if process.popen.poll() is None:
                process.end(9)

    def _start(self, says: str, *arguments: str) -> Process:
        with (self.data.parent / "processes.log").open("a") as log:
            popen = subprocess.Popen(
                [*self.before, sys.executable, "-m", "luthier", *arguments, "--data-dir", str(self.data)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self.environment,
            )
        assert popen.stdout is not None
        process = Process(popen, "")
        self.processes.append(process)
        for process.said in popen.stdout:
            if process.said.startswith(says):
                return process
        process.wait()
        raise AssertionError(self.log())


def prepared(folder: Path, **variables: str) -> Split:
    """An installation below the folder, with the tiny model; nothing runs."""
    models = folder / "models"
    prepare.prepare(tiny.base_folder(folder / "source") / "hf", models / tiny.NAME, tiny.NAME)
    export.export_base(models / tiny.NAME)
    (models / tiny.NAME / "prepared.json").write_text("{}")
    (folder / "catalog.toml").write_text(ENTRY)
    own = {
        "LUTHIER_SERVER_KEY": KEY,
        "LUTHIER_MODELS_DIR": str(models),
        "LUTHIER_CATALOG": str(folder / "catalog.toml"),
        "LUTHIER_TICK_S": "0.1",
        "LUTHIER_TRAIN_THREADS": "1",
        "LUTHIER_SERVE_THREADS": "1",
        "LUTHIER_LEASE_S": str(LEASE_S),
    }
    return Split(folder / "data", dict(os.environ) | own | variables)


def create_job(client: OpenAI, file: str, n_epochs: int) -> str:
    parameters: Any = {"n_epochs": n_epochs, "batch_size": 2}
    return client.fine_tuning.jobs.create(training_file=file, model=tiny.NAME, seed=7, hyperparameters=parameters).id


def step_of(client: OpenAI, job_id: str) -> int:
    """The newest step that a metrics event has."""
    events = client.fine_tuning.jobs.list_events(job_id, limit=20).data
    steps: list[Any] = [event.data for event in events if event.type == "metrics"]
    return max((data["step"] for data in steps), default=0)


def ended_job(client: OpenAI, job_id: str) -> Any:
    """The job once it has succeeded."""
    until(lambda: client.fine_tuning.jobs.retrieve(job_id).status in {"succeeded", "failed"}, 100)
    job = client.fine_tuning.jobs.retrieve(job_id)
    assert job.status == "succeeded", job.error
    return job


def bytes_of(split: Split, client: OpenAI, job: Any) -> tuple[dict[int, str], bytes]:
    """The sha256 of each checkpoint's adapter by step, and the bytes of results.csv."""
    adapters = {
        one.step_number: split.data / "blobs" / "checkpoints" / one.id / "adapter_model.safetensors"
        for one in client.fine_tuning.jobs.checkpoints.list(job.id)
    }
    hashes = {step: hashlib.sha256(path.read_bytes()).hexdigest() for step, path in adapters.items()}
    return hashes, client.files.content(job.result_files[0]).read()
