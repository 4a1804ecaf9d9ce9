"""kill -9 of the service and of the trainer in the middle of a job: it ends, in the bytes of an undisturbed run."""

import hashlib
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import AzureOpenAI

from repository import CLIPPY
from running import KEY, Running
from waiting import until

pytestmark = [pytest.mark.story, pytest.mark.timeout(2400)]
EPOCHS = 2


def client_of(service: Running) -> AzureOpenAI:
    return AzureOpenAI(azure_endpoint=service.url, api_key=KEY, api_version="2024-10-21")


def create(client: AzureOpenAI, seed: int) -> str:
    file = client.files.create(file=("clippy.jsonl", CLIPPY.read_bytes()), purpose="fine-tune")
    asked = {"n_epochs": EPOCHS, "batch_size": 2}
    return client.fine_tuning.jobs.create(
        training_file=file.id, model="gpt-4o-mini-2024-07-18", seed=seed, hyperparameters=asked
    ).id


def ended(service: Running, job_id: str) -> Any:
    client = client_of(service)
    until(lambda: client.fine_tuning.jobs.retrieve(job_id).status in {"succeeded", "failed", "cancelled"}, 400)
    job = client.fine_tuning.jobs.retrieve(job_id)
    assert job.status == "succeeded", job.error
    return job


def bytes_of(service: Running, job: Any) -> tuple[list[str], bytes]:
    """The sha256 of each checkpoint's adapter, newest first, and the results file."""
    client = client_of(service)
    ids = [checkpoint.id for checkpoint in client.fine_tuning.jobs.checkpoints.list(job.id)]
    adapters = [service.data / "blobs" / "checkpoints" / id / "adapter_model.safetensors" for id in ids]
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in adapters]
    return hashes, client.files.content(job.result_files[0]).read()


def has_told(service: Running, job_id: str, text: str) -> bool:
    events = client_of(service).fine_tuning.jobs.list_events(job_id, limit=100)
    return any(event.message.startswith(text) for event in events)


def trainer_of(job_id: str) -> psutil.Process | None:
    for process in psutil.process_iter(["cmdline"]):
        if any(part.endswith(job_id) for part in process.info["cmdline"] or ()):
            return process
    return None


def test_same_seed_same_bytes_also_through_kills(service: Running) -> None:
    plain = ended(service, create(client_of(service), seed=105))
    expected = bytes_of(service, plain)

    hurt = create(client_of(service), seed=105)
    until(lambda: has_told(service, hurt, "Checkpoint created at step 5"), 200)
    service.kill()
    trainer = trainer_of(hurt)
    assert trainer is not None, "the trainer outlives a kill of the service"
    os.kill(trainer.pid, signal.SIGKILL)
    service.start()
    until(lambda: has_told(service, hurt, "Step 7"), 200)
    service.kill()  # this time the trainer goes on alone, and the next service finds it
    service.start()
    job = ended(service, hurt)
    assert bytes_of(service, job) == expected
    told = [event.message for event in client_of(service).fine_tuning.jobs.list_events(hurt, limit=100)]
    assert len(told) == len(set(told)), "no event comes twice"


def test_sigterm_ends_service_and_engine_and_a_later_start_goes_on(service: Running) -> None:
    job_id = create(client_of(service), seed=7)
    until(lambda: has_told(service, job_id, "Training started."), 100)
    assert service.stop() == 0
    assert trainer_of(job_id) is None
    service.start()
    ended(service, job_id)


def test_key_file_of_the_data_folder_is_private(service: Running) -> None:
    key_file: Path = service.data / "api-key"
    assert key_file.read_text().strip() == KEY
    assert key_file.stat().st_mode & 0o077 == 0
