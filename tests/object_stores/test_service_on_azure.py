"""A whole service, `luthier serve` with a real trainer, whose bytes are in Azure Blob Storage (Azurite)."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import OpenAI

import split_processes
import tiny
from luthier import blobs
from luthier.blobs import ObjectBlobs
from object_servers import ACCOUNT_KEY, ObjectServer
from running import KEY, Running
from split_processes import Split

pytestmark = pytest.mark.blobs

EXAMPLE = {"messages": [{"role": "user", "content": "How many?"}, {"role": "assistant", "content": "12, as ever."}]}
ROWS = (json.dumps(EXAMPLE) + "\n").encode() * 12
BIG = bytes(range(256)) * 80_000  # 20 MB: more than one part of the store
BEARER = {"authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("azure")


@pytest.fixture(scope="module")
def split(folder: Path, azure_server: ObjectServer) -> Split:
    variables = {"LUTHIER_BLOBS_URL": azure_server.blobs_url, "LUTHIER_SIGNED_DOWNLOADS_S": "60"}
    return split_processes.prepared(folder, **azure_server.environment, **variables)


@pytest.fixture(scope="module")
def service(folder: Path, split: Split) -> Iterator[Running]:
    running = Running(split.data, folder / "models")
    running.environment = split.environment
    running.start()
    yield running
    assert running.stop() == 0
    log = (folder / "service.log").read_text()
    for secret in (ACCOUNT_KEY, "sig=", KEY):
        assert secret not in log


@pytest.fixture(scope="module")
def client(service: Running) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{service.url}/v1", api_key=KEY, max_retries=0) as made:
        yield made


@pytest.fixture
def store(azure_server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> ObjectBlobs:
    for name, value in azure_server.environment.items():
        monkeypatch.setenv(name, value)
    return blobs.by_url(azure_server.blobs_url)


def test_upload_in_parts_is_stored_and_read_back_whole_and_by_range(
    client: OpenAI, service: Running, azure_server: ObjectServer
) -> None:
    upload = client.uploads.create(
        filename="rows.jsonl", bytes=len(BIG), mime_type="application/jsonl", purpose="user_data"
    )
    parts = [
        client.uploads.parts.create(upload.id, data=BIG[start : start + 9_000_000]).id
        for start in range(0, len(BIG), 9_000_000)
    ]
    done = client.uploads.complete(upload.id, part_ids=parts, md5=hashlib.md5(BIG).hexdigest())
    assert done.file is not None
    content = client.files.content(done.file.id)
    assert content.read() == BIG
    assert str(content.response.url).startswith(azure_server.address)
    path = f"{service.url}/v1/files/{done.file.id}/content"
    for headers in (BEARER, {"api-key": KEY}):
        wanted = {"range": "bytes=8999990-9000009"}
        answer = httpx2.get(path, headers=headers | wanted, follow_redirects=True)
        assert (answer.status_code, answer.content) == (206, BIG[8_999_990:9_000_010])
        assert len(answer.history) == (1 if headers is BEARER else 0)


def test_job_trains_from_azure_and_its_checkpoints_and_results_are_there(client: OpenAI, store: ObjectBlobs) -> None:
    file = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
    parameters: Any = {"n_epochs": 2, "batch_size": 4}
    made = client.fine_tuning.jobs.create(training_file=file.id, model=tiny.NAME, seed=7, hyperparameters=parameters)
    job = split_processes.ended_job(client, made.id)
    results = client.files.content(job.result_files[0], extra_headers={"accept": "text/csv"}).text
    assert results.startswith("step,")
    assert len(results.splitlines()) == 7
    keys = {blob.key.partition("/")[2] for blob in store.stored("")}
    (checkpoint, *_) = client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert f"checkpoints/{checkpoint.id}/adapter_model.safetensors" in keys
    assert f"files/{job.result_files[0]}" in keys


def test_command_downloads_the_file_past_the_service(
    client: OpenAI, service: Running, split: Split, tmp_path: Path
) -> None:
    file = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
    environment = split.environment | {"LUTHIER_URL": service.url, "LUTHIER_API_KEY": KEY}
    command = [sys.executable, "-m", "luthier", "files", "download", file.id, "-o", str(tmp_path / "rows.jsonl")]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert (tmp_path / "rows.jsonl").read_bytes() == ROWS


def test_deleted_file_is_gone_from_the_store_and_its_url_is_dead(client: OpenAI, service: Running) -> None:
    file = client.files.create(file=("rows.jsonl", ROWS), purpose="fine-tune")
    location = httpx2.get(f"{service.url}/v1/files/{file.id}/content", headers=BEARER).headers["location"]
    assert httpx2.get(location).content == ROWS
    client.files.delete(file.id)
    assert httpx2.get(location).status_code == 404
