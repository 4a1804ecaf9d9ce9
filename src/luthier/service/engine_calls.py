"""HTTP to an engine: one answer, one in pieces, and several side by side."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx2

from luthier.core.errors import InvalidRequest, LuthierError, Unavailable, UpstreamFailed
from luthier.core.ports import Address

ENGINE_TIMEOUT = httpx2.Timeout(600.0, connect=10.0)
SIDE_BY_SIDE = 4
"""So many answers of one request are computed at a time: the engine's other slots are for other callers."""

Body = Mapping[str, Any]


async def ask(address: Address, path: str, bodies: Sequence[Body]) -> list[dict[str, Any]]:
    """The engine's answers, in order. Raises InvalidRequest, Unavailable and UpstreamFailed."""
    slots = asyncio.Semaphore(SIDE_BY_SIDE)
    async with _client(address) as client:

        async def one(body: Body) -> dict[str, Any]:
            async with slots:
                return await _post(client, address, path, body)

        tasks = [asyncio.ensure_future(one(body)) for body in bodies]
        try:
            return [await task for task in tasks]
        finally:
            await _end(tasks)


async def ask_in_pieces(
    address: Address, path: str, bodies: Sequence[Body]
) -> AsyncIterator[tuple[int, dict[str, Any]]]:
    """The pieces of all answers as they come, each with its answer's place.

    Raises as `ask` does. When the caller stops reading, the engine is told by the closed connections and frees its
    slots.
    """
    slots = asyncio.Semaphore(SIDE_BY_SIDE)
    queue: asyncio.Queue[tuple[int, dict[str, Any]] | LuthierError | None] = asyncio.Queue(maxsize=64)
    async with _client(address) as client:

        async def one(place: int, body: Body) -> None:
            try:
                async with slots:
                    async for piece in _pieces(client, address, path, body):
                        await queue.put((place, piece))
                await queue.put(None)
            except LuthierError as error:
                await queue.put(error)

        tasks = [asyncio.ensure_future(one(place, body)) for place, body in enumerate(bodies)]
        try:
            running = len(tasks)
            while running:
                match await queue.get():
                    case None:
                        running -= 1
                    case LuthierError() as error:
                        raise error
                    case piece:
                        yield piece
        finally:
            await _end(tasks)


async def text_of_tokens(address: Address, token_ids: Sequence[int]) -> str:
    """The text that tokens stand for."""
    root = Address(address.url.removesuffix("/v1"), {}, address.headers)
    (answer,) = await ask(root, "/detokenize", [{"tokens": list(token_ids)}])
    return str(answer["content"])


def _client(address: Address) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(timeout=ENGINE_TIMEOUT, trust_env=False, headers=dict(address.headers))


async def _end(tasks: Sequence["asyncio.Future[Any]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _post(client: httpx2.AsyncClient, address: Address, path: str, body: Body) -> dict[str, Any]:
    try:
        response = await client.post(f"{address.url}{path}", json={**body, **address.fields})
    except httpx2.TransportError as error:
        raise _engine_gone() from error
    if response.status_code != 200:
        raise _refusal(response.status_code, response.content)
    answer = response.json()
    assert isinstance(answer, dict)
    return answer


async def _pieces(client: httpx2.AsyncClient, address: Address, path: str, body: Body) -> AsyncIterator[dict[str, Any]]:
    streamed = {**body, "stream": True, "stream_options": {"include_usage": True}, **address.fields}
    try:
        async with client.stream("POST", f"{address.url}{path}", json=streamed) as response:
            if response.status_code != 200:
                raise _refusal(response.status_code, await response.aread())
            async for line in response.aiter_lines():
                if line.startswith("error: "):
                    raise _refusal(500, line.removeprefix("error: ").encode())
                if line.startswith("data: ") and line != "data: [DONE]":
                    piece = json.loads(line.removeprefix("data: "))
                    if "error" in piece:
                        raise _refusal(int(piece["error"].get("code") or 500), json.dumps(piece).encode())
                    yield piece
    except httpx2.TransportError as error:
        raise _engine_gone() from error


def _engine_gone() -> Unavailable:
    return Unavailable(
        "engine_gone", "The engine that serves this model ended in the middle of the call. Ask again: it starts anew."
    )


def _refusal(status: int, content: bytes) -> LuthierError:
    try:
        error = json.loads(content)
        error = error.get("error", error)
        kind, text = str(error.get("type")), str(error.get("message"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return UpstreamFailed("engine_failed", f"The engine answered with status {status} and no reason.")
    if kind == "exceed_context_size_error":
        return InvalidRequest("context_length_exceeded", f"The prompt is too long for this model: {text}", "messages")
    if status < 500:
        return InvalidRequest("engine_refused", f"The engine refused the request: {text}")
    return UpstreamFailed("engine_failed", f"The engine failed: {text}")
