"""A tuned model as a caller comes by one: a file, a job, and the supervisor's ticks over a trainer of the test's."""

import httpx2

import rows
from fakes import BASE, KEY
from luthier.service.background.supervisor import Supervisor

TICKS = 8
_HEADERS = {"Authorization": f"Bearer {KEY}"}


def tune(url: str, supervisor: Supervisor, content: bytes | None = None, method: str = "supervised") -> str:
    """Trains on the rows (None: ten good ones) and returns the model's name, whose suffix is "clippy"."""
    files = {"file": ("rows.jsonl", rows.good() if content is None else content)}
    file = httpx2.post(f"{url}/v1/files", data={"purpose": "fine-tune"}, files=files, headers=_HEADERS).json()
    body = {"model": BASE, "training_file": file["id"], "suffix": "clippy", "method": {"type": method}}
    job = httpx2.post(f"{url}/v1/fine_tuning/jobs", json=body, headers=_HEADERS).json()
    for _ in range(TICKS):
        supervisor.tick()
    ended = httpx2.get(f"{url}/v1/fine_tuning/jobs/{job['id']}", headers=_HEADERS).json()
    assert ended["status"] == "succeeded", ended
    return str(ended["fine_tuned_model"])
