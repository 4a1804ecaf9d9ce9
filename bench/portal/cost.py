"""What an open page costs a running job: processor time of the service, and steps, with and without a tab's polls.

The tab is played by a client that asks as the page's script does: the browser itself computes elsewhere.
"""

import json
import statistics
import time

import httpx2
import psutil

from bench.portal.pages import signed_in
from running import KEY

WINDOW_S = 20.0
ROUNDS = 4
MAX_COST = 0.02
_HEADERS = {"api-key": KEY}


def measure_cost(url: str, pid: int) -> list[str]:
    """Prints the figures of alternating windows; returns a sentence if the page takes more than MAX_COST."""
    job_id = _start_job(url)
    process = psutil.Process(pid)
    shares: dict[bool, list[float]] = {False: [], True: []}
    paces: dict[bool, list[float]] = {False: [], True: []}
    with signed_in(url) as client:
        client.get(f"/portal/jobs/{job_id}")
        for number in range(2 * ROUNDS):
            is_open = number % 2 == 1
            share, pace = _window(client, process, job_id, is_open)
            shares[is_open].append(share)
            paces[is_open].append(pace)
    httpx2.post(f"{url}/v1/fine_tuning/jobs/{job_id}/cancel", headers=_HEADERS)
    cores = psutil.cpu_count() or 1
    closed, opened = statistics.median(shares[False]), statistics.median(shares[True])
    cost = (opened - closed) / cores
    ratio = statistics.median(paces[True]) / statistics.median(paces[False])
    print(f"\nservice's share of {cores} cores: {closed / cores:.2%} without, {opened / cores:.2%} with an open page")
    print(f"steps a second: {ratio:.3f} times those without")
    return [f"an open page costs {cost:.1%} of the machine"] if cost > MAX_COST else []


def _start_job(url: str) -> str:
    """A job with enough steps for all windows, in its first steps."""
    messages = [{"role": "user", "content": "Count. " * 20}, {"role": "assistant", "content": "One, two. " * 20}]
    row = {"messages": messages}
    content = b"\n".join([json.dumps(row).encode()] * 400)
    with httpx2.Client(base_url=url, headers=_HEADERS, timeout=60) as client:
        form = {"purpose": "fine-tune"}
        file_id = client.post("/v1/files", data=form, files={"file": ("count.jsonl", content)}).json()["id"]
        settings = {"n_epochs": 40, "batch_size": 2}
        body = {"model": "smollm2-135m-instruct", "training_file": file_id, "hyperparameters": settings}
        job_id = str(client.post("/v1/fine_tuning/jobs", json=body).json()["id"])
        while not client.get(f"/luthier/jobs/{job_id}/metrics").json()["step"]:
            time.sleep(1)
    return job_id


def _window(client: httpx2.Client, process: psutil.Process, job_id: str, is_open: bool) -> tuple[float, float]:
    """The service's processor seconds a second, and the job's steps a second, over one window."""
    before, started, first = _used_s(process), time.monotonic(), _step(client, job_id)
    etags: dict[str, str] = {}
    cursor, tick = "", 0
    while time.monotonic() - started < WINDOW_S:
        if is_open:
            for part in ("state", "more") if tick % 2 == 0 else ("state",):
                headers = {"x-portal-fragment": "1", "if-none-match": etags.get(part, "")}
                answer = client.get(f"/portal/jobs/{job_id}/{part}", headers=headers)
                etags[part] = answer.headers.get("etag", "")
            after = f"&after={cursor}" if cursor else ""
            found = client.get(f"/luthier/jobs/{job_id}/metrics?points=2000{after}").json()
            cursor = found["cursor"] or cursor
        tick += 1
        time.sleep(2)
    seconds = time.monotonic() - started
    return (_used_s(process) - before) / seconds, (_step(client, job_id) - first) / seconds


def _used_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _step(client: httpx2.Client, job_id: str) -> int:
    """The step that the job's page shows."""
    return int(client.get(f"/luthier/jobs/{job_id}/details").json()["progress"]["step"])
