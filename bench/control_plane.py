"""`make bench`: what the control plane costs, beside bare routes that answer the same bytes from memory.

Both servers are processes of their own with the same uvicorn; one client asks them in turns, because a shared
machine's speed drifts. Rates are medians of the rounds; a percentile is of all rounds together.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psutil

from bench import wire_client, wire_data
from bench.process import ROOT
from bench.wire_client import Connection, Timing, head

PATIENCE_S = 60
MIB = 2**20
VARIANTS = 50
"""Of each route's requests: other jobs, other cursors."""
BOUNDARY = "bench-boundary-5b1d"


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        job = wire_data.fill(folder / "data" / "luthier.db", options.jobs, options.events)
        routes = _routes(job, options.jobs, options.events)
        with _service(folder) as (url, ours):
            (folder / "bare").mkdir()
            for route, paths in enumerate(routes.values()):
                for number, path in enumerate(paths):
                    (folder / "bare" / f"{route}-{number}").write_bytes(_ask(url, path))
            with _bare(folder / "bare") as (bare_url, bare):
                _compare_routes(routes, url, bare_url, options)
                if options.upload_mib:
                    _compare_uploads(url, ours, bare_url, bare, options)


def _routes(job: str, n_jobs: int, n_events: int) -> dict[str, list[str]]:
    """Paths of each route, spread over jobs and cursors, so that no answer is asked for twice in a row."""
    spread = [number * (n_jobs - 1) // VARIANTS for number in range(1, VARIANTS + 1)]
    cursors = [number * (n_events - 1) // VARIANTS for number in range(1, VARIANTS + 1)]
    jobs, events = "/v1/fine_tuning/jobs", f"/v1/fine_tuning/jobs/{job}/events"
    return {
        "job get": [f"{jobs}/{wire_data.job_id(number)}" for number in spread],
        f"job list, 20 of {n_jobs:,}": [f"{jobs}?limit=20&after={wire_data.job_id(number)}" for number in spread],
        **{
            f"event page, {limit} of {n_events:,}": [
                f"{events}?limit={limit}&after={wire_data.event_id(number)}" for number in cursors
            ]
            for limit in (20, 100)
        },
    }


def _compare_routes(routes: dict[str, list[str]], url: str, bare_url: str, options: argparse.Namespace) -> None:
    print("| route | requests/s | bare | times the cost | p50 ms | bare | p99 ms | bare |")
    print("|---|---|---|---|---|---|---|---|")
    for route, (name, paths) in enumerate(routes.items()):
        asked = {
            url: [head("GET", path, wire_data.KEY) for path in paths],
            bare_url: [head("GET", f"/{route}-{number}", wire_data.KEY) for number in range(len(paths))],
        }
        timings: dict[str, list[Timing]] = {server: [] for server in asked}
        for server, requests in asked.items():
            wire_client.time_requests(server, requests, options.requests // 10 or 1, options.connections)  # warm
        for _ in range(options.rounds):
            for server, requests in asked.items():
                timings[server].append(
                    wire_client.time_requests(server, requests, options.requests, options.connections)
                )
        ours, theirs = (_rate(timings[server]) for server in (url, bare_url))
        whole, bare = (_together(timings[server]) for server in (url, bare_url))
        print(
            f"| {name} | {ours:.0f} | {theirs:.0f} | {theirs / ours:.2f} | {whole.percentile_ms(0.5):.2f} "
            f"| {bare.percentile_ms(0.5):.2f} | {whole.percentile_ms(0.99):.2f} | {bare.percentile_ms(0.99):.2f} |"
        )


def _compare_uploads(
    url: str, ours: psutil.Process, bare_url: str, bare: psutil.Process, options: argparse.Namespace
) -> None:
    rates: dict[str, list[float]] = {"/v1/files": [], "/discard": []}
    before = ours.memory_info().rss
    for _ in range(options.rounds):
        for server, path in ((url, "/v1/files"), (bare_url, "/discard")):
            rates[path].append(_upload(server, path, options.upload_mib))
    luthier, discarding = (median(each) for each in rates.values())
    print(
        f"\nUpload of {options.upload_mib} MiB: {luthier:.0f} MiB/s; a route that discards it: {discarding:.0f} MiB/s, "
        f"{discarding / luthier:.2f} times the cost. Memory before {before // MIB} MiB, peak {_peak_mib(ours)} MiB "
        f"(bare: {_peak_mib(bare)} MiB)."
    )


def _upload(url: str, path: str, mib: int) -> float:
    """MiB/s of one upload: JSON lines of random text, as the files are that are uploaded."""
    opening = (
        f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n--{BOUNDARY}\r\n'
        'content-disposition: form-data; name="file"; filename="rows.jsonl"\r\n\r\n'
    ).encode()
    ending = f"\r\n--{BOUNDARY}--\r\n".encode()
    rows = (json.dumps({"prompt": os.urandom(150).hex(), "completion": os.urandom(150).hex()}) for _ in range(2000))
    chunk = "\n".join(rows).encode()[: MIB - 1] + b"\n"
    assert len(chunk) == MIB
    length = len(opening) + mib * MIB + len(ending)
    request = head(
        "POST",
        path,
        wire_data.KEY,
        content_type=f"multipart/form-data; boundary={BOUNDARY}",
        content_length=str(length),
    )
    connection = Connection(url)
    started = time.perf_counter()
    status, body = connection.ask(request, [opening, *[chunk] * mib, ending])
    seconds = time.perf_counter() - started
    assert status == 200, body
    if path == "/v1/files":  # a resource may hold 1 GiB, so it goes before the next one comes
        status, _ = connection.ask(head("DELETE", f"{path}/{json.loads(body)['id']}", wire_data.KEY))
        assert status == 200
    connection.close()
    return mib / seconds


@contextmanager
def _service(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    port = _free_port()
    env = {"LUTHIER_DATA_DIR": str(folder / "data"), "LUTHIER_PORT": str(port), "LUTHIER_SERVER_KEY": wire_data.KEY}
    with _running(["luthier", "serve"], env, port, folder / "serve.log") as found:
        yield found


@contextmanager
def _bare(answers: Path) -> Iterator[tuple[str, psutil.Process]]:
    port = _free_port()
    with _running(["bench.wire_bare", str(port), str(answers)], {}, port, answers.parent / "bare.log") as found:
        yield found


@contextmanager
def _running(module: list[str], env: dict[str, str], port: int, log: Path) -> Iterator[tuple[str, psutil.Process]]:
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            env={**os.environ, **env, "PYTHONPATH": paths},
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait(process, port, log)
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise SystemExit(f"the server did not come up; {log} says:\n{log.read_text(errors='replace')[-2000:]}")


def _ask(url: str, path: str) -> bytes:
    connection = Connection(url)
    status, body = connection.ask(head("GET", path, wire_data.KEY))
    connection.close()
    assert status == 200, body
    return body


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _rate(timings: list[Timing]) -> float:
    return median(timing.rate for timing in timings)


def _together(timings: list[Timing]) -> Timing:
    return Timing([each for timing in timings for each in timing.each_s], sum(timing.total_s for timing in timings))


def _peak_mib(process: psutil.Process) -> int:
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    raise SystemExit("this system does not tell a process's peak memory (/proc/PID/status)")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.control_plane", description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--requests", type=int, default=4000, help="of each route in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--upload-mib", type=int, default=512, help="0 leaves the uploads out")
    parser.add_argument("--folder", type=Path, help="where the data lies for the time of the run")
    return parser.parse_args()


if __name__ == "__main__":
    main()
