"""Calls to models by an engine's client, most of all to processes of our own engine, and the processes that run."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil

from luthier.core.engine_ports import Address, EngineClient
from luthier.core.inference.generation import EngineDelta, FinishReason, TokenLogProb, Usage
from luthier.engines.native.client import NativeClient

T = TypeVar("T")


@dataclass
class Answer:
    """What was generated, in the pieces in which it came."""

    pieces: list[str] = field(default_factory=list)
    log_probs: list[TokenLogProb] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    usage: Usage | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def take(self, received: EngineDelta | Usage) -> None:
        if isinstance(received, Usage):
            self.usage = received
            return
        self.pieces.append(received.text)
        self.log_probs += received.log_probs or ()
        self.finish_reason = received.finish_reason or self.finish_reason


@asynccontextmanager
async def opened_client(stalled_s: float = 60.0) -> AsyncIterator[NativeClient]:
    client = NativeClient(stalled_s)
    try:
        yield client
    finally:
        await client.close()


async def generate(client: EngineClient, address: Address, prompt: Sequence[int], **fields: object) -> Answer:
    """An answer to its end; greedy unless told otherwise."""
    answer = Answer()
    request = {"prompt": list(prompt), "max_tokens": 8, "temperature": 0, **fields}
    async with aclosing(client.generate(address, request)) as received:
        async for each in received:
            answer.take(each)
    return answer


async def begin(
    client: EngineClient, address: Address, prompt: Sequence[int], **fields: object
) -> "tuple[Answer, asyncio.Task[None]]":
    """An answer in progress, of which the first piece has come, and the task that takes the rest."""
    answer = Answer()
    request = {"prompt": list(prompt), "max_tokens": 8, "temperature": 0, **fields}

    async def take() -> None:
        async with aclosing(client.generate(address, request)) as received:
            async for each in received:
                answer.take(each)

    task = asyncio.ensure_future(take())
    while not answer.pieces and not task.done():
        await asyncio.sleep(0.001)
    return answer, task


def ask(address: Address, prompt: Sequence[int], **fields: object) -> Answer:
    """An answer on a connection of its own."""
    return with_client(lambda client: generate(client, address, prompt, **fields))


def with_client(call: Callable[[NativeClient], Awaitable[T]], stalled_s: float = 60.0) -> T:
    async def main() -> T:
        async with opened_client(stalled_s) as client:
            return await call(client)

    return asyncio.run(main())


def processes(folder: Path) -> list[psutil.Process]:
    """The engine processes whose configuration lies in the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(part.startswith(f"{folder}/") for part in process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found
