"""Batches of embedding calls: their sizes, their order, turns between resources, callers who leave."""

import asyncio
from collections.abc import Sequence

import pytest

from luthier.core.engine_ports import Address, Capacity
from luthier.core.errors import Unavailable, Unsupported
from luthier.service.scheduling.admission import QueueKey, QueueLimits
from luthier.service.scheduling.embedding_calls import BATCH_TEXTS, EmbeddingCall, EmbeddingCalls

ADDRESS = Address("http://x/v1", {}, capacity=Capacity("e", 4, 400, 90), embeds=True)


class Recorder:
    """An engine that computes when it is told to; the vector of an input is its length."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.fails = False

    async def embed(self, address: Address, inputs: Sequence[Sequence[int]]) -> list[bytes]:
        self.batches.append([len(ids) for ids in inputs])
        await self.goes_on.wait()
        if self.fails:
            raise Unavailable("engine_gone", "gone")
        return [bytes([len(ids)]) for ids in inputs]

    async def close(self) -> None: ...


async def _address() -> Address:
    return ADDRESS


def call(resource: str = "one") -> EmbeddingCall:
    return EmbeddingCall(ADDRESS, _address, QueueKey(resource, "m"), "m")


def test_batches_hold_a_share_of_tokens_and_vectors_keep_the_order_of_inputs() -> None:
    async def run() -> None:
        engine = Recorder()
        lengths = [90, 5, 40, 5, 60, 45, 1] + [2] * 70
        found = await EmbeddingCalls(engine, QueueLimits()).embed(call(), [[7] * length for length in lengths])
        assert found == [bytes([length]) for length in lengths]
        assert all(sum(batch) <= 100 and len(batch) <= BATCH_TEXTS for batch in engine.batches)

    asyncio.run(run())


def test_short_request_of_another_resource_does_not_wait_for_a_long_one() -> None:
    async def run() -> None:
        engine = Recorder()
        calls = EmbeddingCalls(engine, QueueLimits())
        engine.goes_on.clear()
        long = asyncio.ensure_future(calls.embed(call("long"), [[7] * 90] * 50))
        await asyncio.sleep(0)
        short = asyncio.ensure_future(calls.embed(call("short"), [[7] * 3]))
        for _ in range(20):
            await asyncio.sleep(0)
        assert engine.batches == [[90], [90], [3]]
        engine.goes_on.set()
        assert await short == [bytes([3])]
        assert len(await long) == 50

    asyncio.run(run())


def test_caller_who_leaves_gives_its_places_back() -> None:
    async def run() -> None:
        engine = Recorder()
        calls = EmbeddingCalls(engine, QueueLimits())
        engine.goes_on.clear()
        left = asyncio.ensure_future(calls.embed(call(), [[7] * 90] * 50))
        for _ in range(20):
            await asyncio.sleep(0)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        engine.goes_on.set()
        before = len(engine.batches)
        assert await calls.embed(call(), [[7] * 90] * 3) == [bytes([90])] * 3
        assert len(engine.batches) == before + 3

    asyncio.run(run())


def test_error_of_one_batch_ends_the_request_with_it() -> None:
    async def run() -> None:
        engine = Recorder()
        engine.fails = True
        with pytest.raises(Unavailable):
            await EmbeddingCalls(engine, QueueLimits()).embed(call(), [[7] * 90] * 5)
        with pytest.raises(Unsupported):
            await EmbeddingCalls(None, QueueLimits()).embed(call(), [[7]])

    asyncio.run(run())
