"""Places of what runs without a caller: taken in turns by resource, and none lost to one that was cancelled."""

import asyncio

from luthier.api.routes.inference.fair_places import FairPlaces


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def order_of(waiting: list[str], cancelled: int | None = None) -> list[str]:
    """The order in which places are given to waiters of these resources, one at a time."""
    places, order = FairPlaces(1), list[str]()

    async def work(resource_id: str) -> None:
        async with places.place(resource_id):
            order.append(resource_id)

    async with places.place("first"):
        tasks = [asyncio.create_task(work(resource_id)) for resource_id in waiting]
        await settled()
        if cancelled is not None:
            tasks[cancelled].cancel()
            await settled()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(5), places.place("last"):
        return order


def test_resources_take_turns_however_many_one_has() -> None:
    assert asyncio.run(order_of(["a", "a", "a", "b", "a", "c"])) == ["a", "b", "c", "a", "a", "a"]


def test_cancelled_waiter_takes_nobodys_turn_and_no_place() -> None:
    assert asyncio.run(order_of(["a", "b", "a"], cancelled=1)) == ["a", "a"]
    assert asyncio.run(order_of(["a", "b"], cancelled=0)) == ["b"]


def test_place_given_to_a_waiter_that_is_cancelled_at_once_goes_to_the_next() -> None:
    async def run() -> None:
        places = FairPlaces(1)
        holder = places.place("a")
        await holder.__aenter__()
        waiting = [asyncio.create_task(places.place(name).__aenter__()) for name in ("b", "c")]
        await settled()
        await holder.__aexit__(None, None, None)
        waiting[0].cancel()
        await asyncio.wait_for(waiting[1], 5)

    asyncio.run(run())
