"""Long prompts are prefilled one at a time, resources in round-robin order."""

import asyncio
from collections.abc import Awaitable, Callable

from luthier.service.scheduling.prefill_queue import LONG_TOKENS, PrefillQueue

LONG = LONG_TOKENS + 1


def run(scene: Callable[[PrefillQueue, list[str]], Awaitable[None]]) -> list[str]:
    order: list[str] = []
    asyncio.run(asyncio.wait_for(_played(scene, order), 10))
    return order


async def _played(scene: Callable[[PrefillQueue, list[str]], Awaitable[None]], order: list[str]) -> None:
    await scene(PrefillQueue(), order)


async def ask(queue: PrefillQueue, order: list[str], name: str, tokens: int = LONG) -> None:
    """An answer whose prompt takes a while to prefill; its name's first letter is its resource."""
    async with queue.turn(name[0], tokens):
        order.append(name)
        await settle()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_long_prompts_of_a_resource_do_not_keep_that_of_another_waiting() -> None:
    async def scene(queue: PrefillQueue, order: list[str]) -> None:
        await asyncio.gather(*(ask(queue, order, name) for name in ("a1", "a2", "a3", "b1")))

    assert run(scene) == ["a1", "a2", "b1", "a3"]


def test_short_prompt_waits_for_no_turn() -> None:
    async def scene(queue: PrefillQueue, order: list[str]) -> None:
        await asyncio.gather(*(ask(queue, order, name) for name in ("a1", "a2")), ask(queue, order, "b", LONG_TOKENS))

    assert run(scene) == ["a1", "b", "a2"]


def test_turn_passes_on_once_the_prompt_is_read_and_not_at_the_answers_end() -> None:
    async def scene(queue: PrefillQueue, order: list[str]) -> None:
        async with queue.turn("a", LONG) as end_turn:
            other = asyncio.ensure_future(ask(queue, order, "b1"))
            await settle()
            order.append("read")
            end_turn()
            await other
            order.append("end")
        await ask(queue, order, "c1")

    assert run(scene) == ["read", "b1", "end", "c1"]


def test_waiter_who_leaves_takes_no_turn_with_it() -> None:
    async def scene(queue: PrefillQueue, order: list[str]) -> None:
        async with queue.turn("a", LONG) as end_turn:
            leaving, given = (asyncio.ensure_future(ask(queue, order, name)) for name in ("b1", "b2"))
            await settle()
            leaving.cancel()
            await settle()
            end_turn()
            given.cancel()  # just as its turn has come
            await settle()
        await ask(queue, order, "c1")

    assert run(scene) == ["c1"]
