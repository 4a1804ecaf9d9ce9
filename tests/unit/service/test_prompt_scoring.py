"""Prompts wait for their log-probabilities in turn: one resource's many hold nobody else up for long."""

import asyncio
from collections.abc import Sequence

import pytest

from luthier.core.engine_ports import Address
from luthier.core.errors import RateLimited
from luthier.core.inference.generation import TokenLogProb
from luthier.engines.engine_client import HttpEngineClient
from luthier.service.scheduling.prompt_scoring import PromptScoring

ADDRESS = Address("http://127.0.0.1:1/v1", {}, scores_url="http://127.0.0.1:1")


class SlowClient(HttpEngineClient):
    """Answers a prompt once the loop has gone round, and counts how many it reads at once."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[int] = []
        self.at_once = self.most_at_once = 0

    async def prompt_log_probs(self, address: Address, token_ids: Sequence[int], top: int) -> list[TokenLogProb]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        self.read.append(token_ids[0])
        return []


def test_prompts_are_read_one_at_a_time_and_resources_in_turn() -> None:
    async def scored() -> SlowClient:
        client = SlowClient()
        scoring = PromptScoring(client, 10)
        many = [scoring.score(ADDRESS, "greedy", [number], 1) for number in range(8)]
        await asyncio.gather(*many, scoring.score(ADDRESS, "other", [99], 1))
        return client

    client = asyncio.run(scored())
    assert client.most_at_once == 1
    assert sorted(client.read) == [*range(8), 99]
    assert client.read.index(99) <= 2


def test_prompt_beyond_those_that_may_wait_is_refused_and_others_are_not() -> None:
    async def scored() -> None:
        scoring = PromptScoring(SlowClient(), 2)
        waiting = [asyncio.ensure_future(scoring.score(ADDRESS, "greedy", [1], 1)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(RateLimited, match="2 prompts wait"):
            await scoring.score(ADDRESS, "greedy", [1], 1)
        assert await scoring.score(ADDRESS, "other", [1], 1) == []
        await asyncio.gather(*waiting)
        assert await scoring.score(ADDRESS, "greedy", [1], 1) == []

    asyncio.run(scored())
