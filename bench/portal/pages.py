"""What a page takes at the server: from the request to the last byte of its HTML, on loopback."""

import re
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx2

from running import KEY

REPEAT = 15
MAX_MS = 100
MAX_BYTES = 200_000


@contextmanager
def signed_in(url: str) -> Iterator[httpx2.Client]:
    """A client with a session."""
    with httpx2.Client(base_url=url, follow_redirects=True, timeout=60) as client:
        client.post("/portal/sign-in", data={"key": KEY}).raise_for_status()
        yield client


def paths(url: str, job_id: str) -> list[str]:
    """Every page of the portal, those of one thing for the job with most rows and for the newest file and model."""
    with signed_in(url) as client:
        jobs = re.findall(r'name="job" value="(ftjob-\w+)"', client.get("/portal/jobs?status=succeeded").text)
        file_id = re.search(r"/portal/files/(file-\w+)", client.get("/portal/files").text)
        model = re.search(r'/portal/models/([^"?]+\.ft-[^"?]+)"', client.get("/portal/models").text)
    one = f"/portal/jobs/{job_id}"
    listed = ["/portal/jobs", "/portal/jobs?q=tickets-77", "/portal/jobs?status=failed", one]
    listed += [f"{one}/{part}" for part in ("state", "more", "events", "settings", "data", "metrics")]
    listed += ["/portal/jobs/new", f"/portal/compare?job={job_id}&job={jobs[0]}&job={jobs[1]}", "/portal/files"]
    listed += [f"/portal/files/{file_id[1]}"] if file_id else []
    listed += ["/portal/models", *([f"/portal/models/{model[1]}"] if model else [])]
    return [*listed, "/portal/deployments", "/portal/playground", "/portal/settings"]


def measure(url: str, listed: Sequence[str]) -> list[str]:
    """Prints a table; returns a sentence for each page over MAX_MS or MAX_BYTES."""
    missed = []
    print("| page | first ms | median ms | largest ms | kB of HTML |\n|---|---|---|---|---|")
    with signed_in(url) as client:
        for path in listed:
            times, answer = [], None
            for _ in range(REPEAT):
                started = time.perf_counter()
                answer = client.get(path)
                times.append(1000 * (time.perf_counter() - started))
                assert answer.status_code == 200, (path, answer.status_code, answer.text)
            assert answer is not None
            middle, length = statistics.median(times), len(answer.content)
            name = re.sub(r"[0-9a-f]{20,}", "…", path)
            print(f"| {name} | {times[0]:.0f} | {middle:.1f} | {max(times):.0f} | {length / 1000:.1f} |")
            missed += [f"{name}: {middle:.0f} ms"] if middle > MAX_MS else []
            missed += [f"{name}: {length} bytes"] if length > MAX_BYTES else []
    return missed
