"""A backup that is taken while files are uploaded and deleted and a job trains, and the service that is restored."""

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import OpenAI

import rows
import tiny
from luthier.engines.gguf import export
from luthier.trainer.model import prepare
from running import KEY, Running
from waiting import until

pytestmark = [pytest.mark.story, pytest.mark.timeout(600)]
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
QUESTION = [{"role": "user", "content": "What is 3 plus one?"}]


class Uploads:
    """Uploads files, and deletes every third, until it is closed; knows the bytes of all that it has uploaded."""

    def __init__(self, client: OpenAI) -> None:
        self.stored: dict[str, bytes] = {}
        self._client = client
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            data = rows.good(len(self.stored) + 1) * 20
            id = self._client.files.create(file=("rows.jsonl", data), purpose="user_data").id
            self.stored[id] = data
            if len(self.stored) % 3 == 0:
                self._client.files.delete(id)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[tuple[Running, Running]]:
    """Two services on folders of their own: the first with a tiny base model; neither runs yet."""
    models = tmp_path / "models"
    source = tiny.base_folder(tmp_path / "source") / "hf"
    prepare.prepare(source, models / tiny.NAME, tiny.NAME)
    export.export_base(models / tiny.NAME)
    (models / tiny.NAME / "prepared.json").write_text("{}")
    (tmp_path / "catalog.toml").write_text(ENTRY)
    both = (Running(tmp_path / "one", models), Running(tmp_path / "two", tmp_path / "two" / "models"))
    own = {"LUTHIER_CATALOG": str(tmp_path / "catalog.toml"), "LUTHIER_TICK_S": "0.1", "LUTHIER_TRAIN_THREADS": "1"}
    for service in both:
        service.environment |= own
    yield both
    for service in both:
        service.close()


def luthier(service: Running, *arguments: str) -> str:
    command = [sys.executable, "-m", "luthier", *arguments]
    environment = service.environment | {"LUTHIER_DATA_DIR": str(service.data)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def client_of(service: Running) -> OpenAI:
    return OpenAI(base_url=f"{service.url}/v1", api_key=KEY, max_retries=0)


def create(client: OpenAI, file: str, n_epochs: int) -> str:
    parameters: Any = {"n_epochs": n_epochs, "batch_size": 2}
    return client.fine_tuning.jobs.create(training_file=file, model=tiny.NAME, seed=7, hyperparameters=parameters).id


def ended(client: OpenAI, job_id: str) -> Any:
    until(lambda: client.fine_tuning.jobs.retrieve(job_id).status in {"succeeded", "failed"}, 300)
    job = client.fine_tuning.jobs.retrieve(job_id)
    assert job.status == "succeeded", job.error
    return job


def bytes_of(service: Running, job: Any) -> tuple[dict[int, str], bytes]:
    """The sha256 of each checkpoint's adapter by step, and the bytes of results.csv."""
    client = client_of(service)
    adapters = {
        one.step_number: service.data / "blobs" / "checkpoints" / one.id / "adapter_model.safetensors"
        for one in client.fine_tuning.jobs.checkpoints.list(job.id)
    }
    hashes = {step: hashlib.sha256(path.read_bytes()).hexdigest() for step, path in adapters.items()}
    return hashes, client.files.content(job.result_files[0]).read()


def answer(service: Running, model: str) -> str | None:
    given = client_of(service).chat.completions.create(
        model=model, messages=QUESTION, max_tokens=12, temperature=0.9, seed=3
    )
    return given.choices[0].message.content


def step_of(client: OpenAI, job_id: str) -> int:
    events = client.fine_tuning.jobs.list_events(job_id, limit=20).data
    steps: list[Any] = [event.data for event in events if event.type == "metrics"]
    return max((data["step"] for data in steps), default=0)


def test_backup_under_load_is_restored_with_every_byte_and_its_job_ends_in_the_same_ones(
    services: tuple[Running, Running], tmp_path: Path
) -> None:
    one, two = services
    one.data.mkdir()
    one.start()
    client = client_of(one)
    file = client.files.create(file=("rows.jsonl", rows.good(60)), purpose="fine-tune").id
    tuned = ended(client, create(client, file, 1)).fine_tuned_model
    assert one.deploy("clippy", tuned)["provisioningState"] == "Succeeded"
    job_id = create(client, file, 40)
    uploads = Uploads(client_of(one))
    try:
        until(lambda: step_of(client, job_id) >= 40, 60)
        archive = tmp_path / "backup.tar"
        luthier(one, "backup", str(archive), "--with-base-models", "--quiet")
    finally:
        uploads.close()
    assert client.fine_tuning.jobs.retrieve(job_id).status == "running", "the backup was taken in the middle of it"
    assert len(uploads.stored) > 5

    luthier(two, "restore", str(archive), "--data-dir", str(two.data))
    two.start()  # beside the first, whose trainer is still at work
    restored = client_of(two)
    kept = [file.id for file in restored.files.list() if file.id in uploads.stored]
    assert len(kept) > 3
    assert [id for id in kept if restored.files.content(id).read() != uploads.stored[id]] == []
    names = "/deployments?api-version=2023-05-15"
    lists = [httpx2.get(f"{url}/openai{names}", headers={"api-key": KEY}).json() for url in (one.url, two.url)]
    assert lists[0] == lists[1]
    assert answer(two, "clippy") == answer(one, "clippy")
    expected = bytes_of(one, ended(client, job_id))
    assert bytes_of(two, ended(restored, job_id)) == expected
    told = [event.message for event in restored.fine_tuning.jobs.list_events(job_id, limit=100)]
    assert len(told) == len(set(told)), "no event comes twice"
    assert any(line.endswith("continuing from the last saved step, attempt 2.") for line in told), told
    assert not any(line.startswith("Training begins again") for line in told), told
    shown = luthier(two, "storage", "show")
    assert '"database_is_older_since": null' in shown
