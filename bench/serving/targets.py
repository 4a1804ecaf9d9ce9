"""What is measured, each asked for one streamed answer: the service, llama.cpp's own server, our own engine."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

import httpx2
import psutil

from bench.serving.prompts import Prompts
from luthier.core.engine_ports import Address
from luthier.core.inference.generation import EngineDelta, Usage
from luthier.engines.native.client import NativeClient

BASE = "smollm2-135m-instruct"
NEVER_ENDS = {"0": -100, "2": -100}
"""The base's ends of text and of turn, forbidden: an answer is as long as it may be."""
_GREEDY = {"temperature": 0, "logit_bias": NEVER_ENDS}
_STREAMED = {"stream": True, "stream_options": {"include_usage": True}}


class Failed(Exception):
    """A measurement that gave no figure, and why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The seconds from the question to its first text, and its tokens as the server counts them."""

    first_s: float
    prompt_tokens: int
    tokens: int
    cached_tokens: int


class Target(Protocol):
    """One thing that answers. `wake` and `rest` are called around its measurements: at rest it computes nothing."""

    name: str

    async def ask(
        self, text: str, max_tokens: int, model: str | None = None, began: asyncio.Event | None = None
    ) -> Answer:
        """An answer to one message, by a deployment or by the base; sets `began` with its first text."""
        ...

    def wake(self) -> None: ...

    def rest(self) -> None: ...

    async def close(self) -> None: ...


class ServiceTarget:
    """A `luthier serve`; `deployments` answer with a tuned model each, `spare` is a tuned model without one."""

    def __init__(self, name: str, url: str, key: str, deployments: list[str], spare: str) -> None:
        self.name = name
        self.deployments = deployments
        self.spare = spare
        self.http = _client(url, {"Authorization": f"Bearer {key}"})

    async def ask(
        self, text: str, max_tokens: int, model: str | None = None, began: asyncio.Event | None = None
    ) -> Answer:
        messages = [{"role": "user", "content": text}]
        body = {"messages": messages, "max_tokens": max_tokens, **_GREEDY, **_STREAMED}
        if model is None:
            return await _answer(self.http, "/v1/chat/completions", body | {"model": BASE}, began)
        path = f"/openai/deployments/{model}/chat/completions?api-version=2024-10-21"
        return await _answer(self.http, path, body, began)

    def wake(self) -> None:
        pass

    def rest(self) -> None:
        pass

    async def close(self) -> None:
        await self.http.aclose()


class LlamaCppTarget:
    """llama.cpp's own server. Its threads spin for minutes after an answer, so at rest the process is stopped."""

    def __init__(self, name: str, url: str, process: psutil.Process, prompts: Prompts) -> None:
        self.name = name
        self._http = _client(url, {})
        self._process = process
        self._prompts = prompts

    async def ask(
        self, text: str, max_tokens: int, model: str | None = None, began: asyncio.Event | None = None
    ) -> Answer:
        assert model is None, "it has no adapters"
        body = {"prompt": self._prompts.token_ids(text), "max_tokens": max_tokens, **_GREEDY, **_STREAMED}
        return await _answer(self._http, "/v1/completions", body, began)

    def wake(self) -> None:
        self._process.resume()

    def rest(self) -> None:
        self._process.suspend()

    async def close(self) -> None:
        await self._http.aclose()


class NativeTarget:
    """Our own engine's process, asked over its own protocol."""

    def __init__(self, name: str, address: Address, prompts: Prompts) -> None:
        self.name = name
        self._address = address
        self._prompts = prompts
        self._client = NativeClient()

    async def ask(
        self, text: str, max_tokens: int, model: str | None = None, began: asyncio.Event | None = None
    ) -> Answer:
        assert model is None, "adapters have addresses of their own"
        request = {"prompt": self._prompts.token_ids(text), "max_tokens": max_tokens, "cache_scope": "bench", **_GREEDY}
        return await collect(_of_engine(self._client, self._address, request), max_tokens, began)

    def wake(self) -> None:
        pass

    def rest(self) -> None:
        pass

    async def close(self) -> None:
        await self._client.close()


async def collect(pieces: AsyncIterator[str | Usage], max_tokens: int, began: asyncio.Event | None = None) -> Answer:
    """Times an answer. Raises Failed for one that is shorter than it may be, or has no text at all."""
    asked = time.perf_counter()
    first_s, usage = None, None
    async for piece in pieces:
        if isinstance(piece, Usage):
            usage = piece
        elif piece and first_s is None:
            first_s = time.perf_counter() - asked
            if began is not None:
                began.set()
    if first_s is None or usage is None:
        raise Failed("an answer without text" if first_s is None else "an answer without usage")
    if usage.completion_tokens != max_tokens:
        raise Failed(f"an answer of {usage.completion_tokens} tokens instead of {max_tokens}")
    return Answer(first_s, usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)


async def together(*asked: Coroutine[Any, Any, Answer]) -> tuple[list[Answer], float]:
    """Answers at once and the seconds for all of them; where one fails, none goes on."""
    began = time.perf_counter()
    tasks = [asyncio.ensure_future(each) for each in asked]
    try:
        return list(await asyncio.gather(*tasks)), time.perf_counter() - began
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _client(url: str, headers: dict[str, str]) -> httpx2.AsyncClient:
    """Connections are new for each request: a server that is at rest closes none."""
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    transport = httpx2.AsyncHTTPTransport(verify=False, trust_env=False, limits=limits)
    return httpx2.AsyncClient(base_url=url, headers=headers, transport=transport, timeout=600, trust_env=False)


async def _answer(http: httpx2.AsyncClient, path: str, body: dict[str, Any], began: asyncio.Event | None) -> Answer:
    return await collect(_of_server(http, path, body), body["max_tokens"], began)


async def _of_server(http: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> AsyncIterator[str | Usage]:
    """The texts of a chat's or a completion's stream, and its usage."""
    async with http.stream("POST", path, json=body) as response:
        if response.status_code != 200:
            raise Failed(f"HTTP {response.status_code}: {(await response.aread()).decode(errors='replace')[:200]}")
        async for line in response.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            piece = json.loads(line[6:])
            if "error" in piece:
                raise Failed(f"an error in the stream: {piece['error']}")
            for choice in piece.get("choices") or ():
                yield choice.get("text") or choice.get("delta", {}).get("content") or ""
            if usage := piece.get("usage"):
                cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
                yield Usage(usage["prompt_tokens"], usage["completion_tokens"], cached)


async def _of_engine(client: NativeClient, address: Address, request: dict[str, Any]) -> AsyncIterator[str | Usage]:
    async for value in client.generate(address, request):
        yield value.text if isinstance(value, EngineDelta) else value
