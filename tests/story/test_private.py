"""A real service, engine and trainer: what they write is their owner's, and no log of theirs quotes anybody."""

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from openai import BadRequestError, OpenAI

from running import KEY, Running
from waiting import until

MARK = "marked text"
SECRET = "markedsecret"
TRAINER, ENGINE = "luthier.trainer", "luthier.engines.native.engine_server"

pytestmark = [pytest.mark.story, pytest.mark.timeout(2400)]


@pytest.fixture
def service(tmp_path: Path, base_folder: Path) -> Iterator[Running]:
    """A service in a folder that was open to all before, with secrets in its environment."""
    data = tmp_path / "data"
    (data / "blobs").mkdir(parents=True)
    (data / "audit.jsonl").touch()
    for path, mode in ((data, 0o755), (data / "blobs", 0o755), (data / "audit.jsonl", 0o644)):
        path.chmod(mode)
    running = Running(data, base_folder.parent)
    running.environment |= {"AWS_SECRET_ACCESS_KEY": SECRET, "HF_TOKEN": SECRET, "LUTHIER_API_KEY": f"{SECRET}-tenant"}
    running.start()
    yield running
    running.close()


def ours(data: Path) -> list[psutil.Process]:
    """The trainer and the engine of this service, by their modules and their folders in their command lines."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if (words := process.info["cmdline"] or [])[2:3] in ([TRAINER], [ENGINE]) and str(data) in " ".join(words)
    ]


def test_processes_their_files_and_their_logs_keep_what_is_private(service: Running) -> None:
    client = OpenAI(base_url=f"{service.url}/v1", api_key=KEY, max_retries=0)
    asked = [{"role": "user", "content": f"{MARK} 1"}]
    client.chat.completions.create(model="smollm2-135m-instruct", messages=asked, max_tokens=2)
    with pytest.raises(BadRequestError):
        client.chat.completions.create(model="smollm2-135m-instruct", messages=asked, logit_bias={f"{MARK} 2": 1})
    rows = [json.dumps({"messages": [*asked, {"role": "assistant", "content": f"{MARK} {n}"}]}) for n in range(12)]
    file = client.files.create(file=(f"{MARK}.jsonl", "\n".join(rows).encode()), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="smollm2-135m-instruct", training_file=file.id, suffix=SECRET)
    log = service.data / "runs" / job.id / "trainer.log"
    until(lambda: log.exists() and len(ours(service.data)) == 2, 60)
    for process in ours(service.data):
        environment = process.environ()
        assert SECRET not in str(environment)
        assert KEY not in str(environment)
        assert environment["PATH"] == os.environ["PATH"]
    told = client.fine_tuning.jobs.list_events
    until(lambda: any("Training started" in event.message for event in told(job.id)), 120)
    open_to_others = {
        str(path): oct(mode)
        for path in service.data.rglob("*")
        if (mode := stat.S_IMODE(path.lstat().st_mode)) & 0o077 and not path.is_symlink()
    }
    assert open_to_others == {}
    logs = {path.name: path.read_text(errors="replace") for path in service.data.rglob("*.log")}
    logs["service.log"] = (service.data.parent / "service.log").read_text()
    logs["audit.jsonl"] = (service.data / "audit.jsonl").read_text()
    assert logs.keys() >= {"engine.log", "trainer.log", "service.log", "audit.jsonl"}
    for name, text in logs.items():
        for private in (MARK, SECRET, KEY):
            assert private not in text, name
    assert f"The data folder {service.data} has mode 0755" in logs["service.log"]
    client.fine_tuning.jobs.cancel(job.id)
    client.close()


def test_start_with_a_tenants_key_is_refused_and_the_key_file_stays(service: Running) -> None:
    assert KEY not in service.said
    assert SECRET not in service.said
    assert f"Key: in the file {service.data / 'api-key'}" in service.said
    service.stop()
    del service.environment["LUTHIER_SERVER_KEY"]
    with pytest.raises(AssertionError, match="LUTHIER_API_KEY is set, which is what clients send"):
        service.start()
    assert (service.data / "api-key").read_text().strip() == KEY
