"""Jobs: a thousand at once, and hundreds who watch one."""

import asyncio
import time
from collections import Counter

from bench.load import target, wire
from bench.load.figures import Figures
from bench.load.target import BASE, ROWS, Service

CONNECTIONS = 64
WATCH_S = 10.0
PATIENCE_S = 120.0
_JOBS = "/v1/fine_tuning/jobs"


async def creations(service: Service, n: int) -> Figures:
    """So many jobs of one file, asked for over 64 connections at a time."""
    file = await _upload(service)
    turns = asyncio.Semaphore(CONNECTIONS)
    times: list[float] = []

    async def one() -> str:
        async with turns:
            began = time.perf_counter()
            answer = await wire.ask(
                service.port, "POST", _JOBS, service.key, {"training_file": file, "model": BASE, "seed": 1}
            )
            times.append(time.perf_counter() - began)
            return f"{answer.status} {answer.code}".strip()

    began = time.perf_counter()
    outcomes = Counter(await asyncio.gather(*(one() for _ in range(n))))
    seconds = time.perf_counter() - began
    return Figures(outcomes, {"creations a second": n / seconds, "longest creation, s": max(times)})


async def event_streams(service: Service, n: int) -> Figures:
    """So many watch a paused job for ten seconds; then it is cancelled, and each must be told."""
    file = await _upload(service)
    body = {"training_file": file, "model": BASE, "seed": 1}
    job = (await wire.ask(service.port, "POST", _JOBS, service.key, body)).json()["id"]
    await wire.ask(service.port, "POST", f"{_JOBS}/{job}/pause", service.key, {})
    path = f"{_JOBS}/{job}/events?stream=true"
    watching = [asyncio.ensure_future(wire.ask(service.port, "GET", path, service.key)) for _ in range(n)]
    try:
        await asyncio.sleep(1.0)
        used = sum(service.process.cpu_times()[:2])
        await asyncio.sleep(WATCH_S)
        share = (sum(service.process.cpu_times()[:2]) - used) / WATCH_S
        began = time.perf_counter()
        await wire.ask(service.port, "POST", f"{_JOBS}/{job}/cancel", service.key, {})
        await asyncio.wait(watching, timeout=PATIENCE_S)
        seconds = time.perf_counter() - began
    finally:
        for each in watching:
            each.cancel()
    ended = await asyncio.gather(*watching, return_exceptions=True)
    outcomes = Counter(
        "told of the end" if isinstance(each, wire.Answer) and b"[DONE]" in each.body[-20:] else "not told"
        for each in ended
    )
    return Figures(outcomes, {"processor share while nothing happens": share, "all told after s": seconds})


async def _upload(service: Service) -> str:
    answer = await wire.send(service.port, target.upload_request(service.key, ROWS.read_bytes()))
    return str(answer.json()["id"])
