"""Job gets and creations a second with 1, 2 and 4 API processes, on SQLite and on PostgreSQL.

    make bench-processes                   needs Debian's postgresql for the second half

No supervisor runs, so that jobs only pile up. Client and servers share the machine: on two cores the figures show what
a further process costs, not what it brings on a larger machine.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import postgres
import rows
import split_processes
import tiny
from bench.wire_client import Connection
from running import KEY
from split_processes import Split

CONNECTIONS = 8
UNLIMITED = ("queued_jobs", "jobs")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each figure")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    asked = parser.parse_args()
    sys.stdout.write("| database | API processes | gets/s | creations/s |\n|---|---|---|---|\n")
    for count in asked.processes:
        measure("SQLite", count, asked.seconds, {})
    if (reason := postgres.missing()) is not None:
        sys.stderr.write(f"{reason}\n")
        return 1
    server = postgres.Server.create(fsync="on", full_page_writes="on", synchronous_commit="on", autovacuum="on")
    try:
        for count in asked.processes:
            url = server.url(server.create_database())
            measure("PostgreSQL", count, asked.seconds, {"LUTHIER_DATABASE_URL": url})
    finally:
        server.remove()
    return 0


def measure(name: str, count: int, seconds: float, variables: dict[str, str]) -> None:
    """Prints a line for a new installation of `count` API processes."""
    with tempfile.TemporaryDirectory() as folder:
        split = split_processes.prepared(Path(folder), **variables)
        try:
            urls = [split.api().url for _ in range(count)]
            _raise_quotas(split)
            gets, creations = rates(split, urls, seconds)
        finally:
            split.close()
    sys.stdout.write(f"| {name} | {count} | {gets:,.0f} | {creations:,.0f} |\n")
    sys.stdout.flush()


def _raise_quotas(split: Split) -> None:
    """Jobs may pile up."""
    limits = [word for quota in UNLIMITED for word in ("--set", f"{quota}=1000000")]
    command = [sys.executable, "-m", "luthier", "resources", "quota", "luthier", *limits, "--quiet"]
    own = split.environment | {"LUTHIER_DATA_DIR": str(split.data)}
    subprocess.run(command, check=True, env=own, stdout=subprocess.DEVNULL)


def rates(split: Split, urls: Sequence[str], seconds: float) -> tuple[float, float]:
    """Gets and creations a second over all processes, each asked by its share of the connections."""
    client = split.client(split.processes[0])
    file_id = client.files.create(file=("rows.jsonl", rows.good(20)), purpose="fine-tune").id
    job_id = split_processes.create_job(client, file_id, 1)
    body = json.dumps({"model": tiny.NAME, "training_file": file_id, "seed": 1}).encode()
    get = _head("GET", f"/v1/fine_tuning/jobs/{job_id}", b"")
    create = _head("POST", "/v1/fine_tuning/jobs", body)
    return (
        _rate(urls, seconds, lambda connection: connection.ask(get)),
        _rate(urls, seconds, lambda connection: connection.ask(create, [body])),
    )


def _head(method: str, path: str, body: bytes) -> bytes:
    headers = f"host: here\r\napi-key: {KEY}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return f"{method} {path} HTTP/1.1\r\n{headers}".encode()


def _rate(urls: Sequence[str], seconds: float, ask: Callable[[Connection], tuple[int, bytes]]) -> float:
    """Answers a second of CONNECTIONS connections together. Raises SystemExit for an answer that is none of 200."""
    counts, refused = [0] * CONNECTIONS, list[bytes]()
    deadline = time.monotonic() + seconds

    def work(number: int) -> None:
        connection = Connection(urls[number % len(urls)])
        while time.monotonic() < deadline and not refused:
            status, answer = ask(connection)
            if status != 200:
                refused.append(answer)
            counts[number] += 1
        connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CONNECTIONS)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if refused:
        raise SystemExit(refused[0].decode())
    return sum(counts) / (time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
