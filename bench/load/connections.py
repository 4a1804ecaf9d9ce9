"""Connections that stop in the middle: uploads, heads and bodies of which the rest never comes."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

from bench.load import target, wire
from bench.load.figures import Figures
from bench.load.target import Service

HOLD_S = 20.0
BIG_BYTES = 31 * 2**20
STOPPED_SHORT = 25


async def silent_uploads(service: Service, n: int) -> Figures:
    """Each announces a MiB, sends a beginning, and then nothing; the other routes go on meanwhile?"""
    request = target.upload_request(service.key, b'{"messages": [', missing_bytes=2**20)
    others: list[float] = []
    connections = await opened(service.port, n, request)
    outcomes, _ = await asyncio.gather(held(connections, HOLD_S), _list_jobs(service, others, HOLD_S))
    return Figures(outcomes, {"job list meanwhile, longest s": max(others, default=HOLD_S)})


async def half_heads(service: Service, n: int) -> Figures:
    """Each sends a request line and half a header."""
    log_bytes = service.log_bytes()
    connections = await opened(service.port, n, b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1\r\nx-half: a")
    outcomes = await held(connections, HOLD_S)
    return Figures(outcomes, {"log grew by KiB": (service.log_bytes() - log_bytes) / 1024})


async def keyless_bodies(service: Service, n: int) -> Figures:
    """31 MiB of JSON without a key, `n` of them, eight at a time; then 25 that stop one byte short."""
    body = b'{"messages": "' + b"x" * (BIG_BYTES - 16) + b'"}'
    eight = asyncio.Semaphore(8)

    async def one() -> str:
        async with eight:
            try:
                reader, writer = await wire.connect(service.port)
                writer.write(wire.head("POST", "/v1/chat/completions", "", len(body)))
                answer = asyncio.ensure_future(wire.answer_of(reader))
                await _send_unless_answered(writer, body, answer)
                return _outcome(await asyncio.wait_for(answer, HOLD_S * 3))
            except (OSError, TimeoutError):
                return "no answer"
            finally:
                writer.close()

    outcomes = Counter(await asyncio.gather(*(one() for _ in range(n))))
    short = await opened(
        service.port, STOPPED_SHORT, wire.head("POST", "/v1/chat/completions", "", len(body)) + body[:-1]
    )
    stopped = await held(short, HOLD_S)
    return Figures(outcomes + Counter({f"stopped short: {how}": count for how, count in stopped.items()}))


async def _send_unless_answered(
    writer: asyncio.StreamWriter, body: bytes, answer: "asyncio.Future[wire.Answer]"
) -> None:
    """As a well-behaved client does: it stops sending when it has its answer."""
    for start in range(0, len(body), 2**18):
        if answer.done():
            return
        writer.write(body[start : start + 2**18])
        try:
            await asyncio.wait_for(writer.drain(), HOLD_S)
        except (OSError, TimeoutError):
            return


async def opened(port: int, n: int, request: bytes) -> list[wire.Connection | None]:
    """Connections that have sent it; None for one that could not be made."""

    async def one() -> wire.Connection | None:
        try:
            reader, writer = await asyncio.wait_for(wire.connect(port), 10.0)
            writer.write(request)
            return reader, writer
        except (OSError, TimeoutError):
            return None

    return list(await asyncio.gather(*(one() for _ in range(n))))


async def held(connections: Sequence[wire.Connection | None], seconds: float) -> Counter[str]:
    """How each was ended by the service within that time; what is open then is closed from here."""

    async def one(connection: wire.Connection | None) -> str:
        if connection is None:
            return "no connection"
        reader, writer = connection
        try:
            return _outcome(await asyncio.wait_for(wire.answer_of(reader), seconds))
        except TimeoutError:
            return f"open after {seconds:.0f} s"
        finally:
            writer.transport.abort()

    return Counter(await asyncio.gather(*(one(connection) for connection in connections)))


def _outcome(answer: wire.Answer) -> str:
    return f"{answer.status} {answer.code}".strip() if answer.status else "closed without an answer"


async def _list_jobs(service: Service, found_s: list[float], seconds: float) -> None:
    """Another client lists jobs, again and again, until the time is over."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        asked = wire.ask(service.port, "GET", "/v1/fine_tuning/jobs", service.key, source=wire.HOST)
        try:
            status = (await asyncio.wait_for(asked, max(0.1, until - began))).status
        except TimeoutError:
            status = 0
        found_s.append(time.perf_counter() - began if status == 200 else seconds)
        await asyncio.sleep(0.1)
