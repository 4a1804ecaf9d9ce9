"""Whose answer is computed next: bounds, turns, and room that is never given twice."""

import asyncio
from contextlib import ExitStack
from functools import partial

import pytest

from luthier.core.engine_ports import Capacity
from luthier.core.errors import RateLimited, Unavailable
from luthier.service.scheduling import background_share
from luthier.service.scheduling.admission import (
    MAX_BYPASS_S,
    AdmissionQueue,
    CacheOwner,
    QueueKey,
    QueueLimits,
    Reservation,
)
from luthier.service.scheduling.background_share import BackgroundAnswer

FOUR = Capacity("engine", slots=4, context_tokens=1000, window_tokens=800)
A, B, C, D = (QueueKey(name, f"{name}'s deployment") for name in "abcd")


class Desk:
    """A queue and the requests in it; a request's reservation is a task's result."""

    def __init__(self, capacity: Capacity = FOUR, limits: QueueLimits | None = None) -> None:
        self.time = 0.0
        self.queue = AdmissionQueue(capacity, limits or QueueLimits(), lambda: self.time)
        self.open = ExitStack()

    async def ask(self, key: QueueKey, tokens: int = 100, prompt: str = "") -> "asyncio.Task[Reservation]":
        request = self.open.enter_context(self.queue.queued(key))
        task = asyncio.ensure_future(self.queue.reserve(request, "model", tokens, prompt))
        await settled()
        return task


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_queue_of_a_deployment_when_full_refuses_with_the_time_to_retry() -> None:
    async def main() -> None:
        desk = Desk(limits=QueueLimits(requests=2))
        reservations = [await desk.ask(A) for _ in range(3)]  # and the fourth reservation is kept for others
        waiting = [await desk.ask(A) for _ in range(2)]
        assert all(reservation.done() for reservation in reservations)
        assert not any(reservation.done() for reservation in waiting)
        with pytest.raises(RateLimited, match=r"overloaded.*2 requests wait for a's deployment") as refusal:
            await desk.ask(A)
        assert refusal.value.retry_after_s >= 1
        assert (await desk.ask(B)).done()
        for task in waiting:
            task.cancel()

    asyncio.run(main())


def test_request_that_waits_longer_than_the_limit_is_refused_and_leaves_no_trace() -> None:
    async def main() -> None:
        desk = Desk(limits=QueueLimits(requests=1, wait_s=0.02))
        reservations = [await desk.ask(A) for _ in range(3)]
        with pytest.raises(RateLimited, match=r"waited 0.02 seconds"):
            await (await desk.ask(A))
        desk.open.close()
        desk.queue.release(reservations[0].result())
        assert (await desk.ask(A)).done()

    asyncio.run(main())


def test_reserved_tokens_never_exceed_the_context_and_a_leaving_one_lets_the_next_in() -> None:
    async def main() -> None:
        desk = Desk()
        first, second = await desk.ask(A, 700), await desk.ask(B, 400)
        assert first.done()
        assert not second.done()
        desk.queue.release(first.result())
        assert (await second).tokens == 400

    asyncio.run(main())


def test_resources_take_turns_whoever_asked_first() -> None:
    async def main() -> None:
        desk = Desk(Capacity("engine", 1, 1000, 800))
        running = await desk.ask(A)
        many = [await desk.ask(A) for _ in range(3)]
        one = await desk.ask(B)
        desk.queue.release(running.result())
        desk.queue.release(await many[0])
        assert (await one).resource_id == "b"
        assert not many[1].done()
        for task in many[1:]:
            task.cancel()

    asyncio.run(main())


def test_last_place_is_for_a_resource_that_has_none() -> None:
    async def main() -> None:
        desk = Desk()
        own = [await desk.ask(A) for _ in range(4)]
        assert [task.done() for task in own] == [True, True, True, False]
        assert (await desk.ask(B)).done()
        own[3].cancel()

    asyncio.run(main())


def test_large_request_is_passed_by_small_ones_only_for_so_long() -> None:
    async def main() -> None:
        desk = Desk()
        running = await desk.ask(A, 500)
        large = await desk.ask(B, 800)
        passing = await desk.ask(C, 100)
        assert passing.done()
        desk.time += MAX_BYPASS_S
        late = await desk.ask(D, 300)
        assert not late.done()
        desk.queue.release(running.result())
        desk.queue.release(passing.result())
        await settled()
        assert large.done()
        assert not late.done()
        late.cancel()

    asyncio.run(main())


def test_waiter_who_leaves_gives_way_even_with_a_place_just_given() -> None:
    async def main() -> None:
        desk = Desk(Capacity("engine", 1, 1000, 800))
        running = await desk.ask(A)
        leaving, staying = await desk.ask(B), await desk.ask(C)
        desk.queue.release(running.result())  # the reservation is B's now, and B goes before it knows
        leaving.cancel()
        assert (await staying).resource_id == "c"

    asyncio.run(main())


def test_slot_is_reused_by_its_cache_owner_and_by_nobody_else() -> None:
    async def main() -> None:
        desk = Desk()
        first = (await desk.ask(A, prompt="once upon")).result()
        other = (await desk.ask(A, prompt="tell me")).result()
        desk.queue.release(first, CacheOwner("url", "a", "model"), "once upon")
        desk.queue.release(other, CacheOwner("url", "a", "model"), "tell me")
        again = (await desk.ask(A, prompt="tell me more")).result()
        assert again.slot is other.slot
        stranger = (await desk.ask(B, prompt="once upon a time")).result()
        assert stranger.slot.cache_owner is None

    asyncio.run(main())


def test_answers_of_one_request_wait_for_their_turn_without_a_limit() -> None:
    async def main() -> None:
        desk = Desk(Capacity("engine", 1, 1000, 800), QueueLimits(requests=1, wait_s=0.02))
        with desk.queue.queued(A) as request:
            reservation = await desk.queue.reserve(request, "model", 100, "")
            later = asyncio.ensure_future(desk.queue.reserve(request, "model", 100, ""))
            await asyncio.sleep(0.05)
            desk.queue.release(reservation)
            assert (await later).tokens == 100

    asyncio.run(main())


BATCH_A, BATCH_B = (QueueKey(name, f"{name}'s model", is_background=True) for name in "ab")
EIGHT = Capacity("engine", slots=8, context_tokens=1600, window_tokens=800)


def test_background_gets_half_of_an_idle_engine_and_a_quarter_beside_a_live_answer() -> None:
    async def main() -> None:
        desk = Desk(EIGHT)
        batch = [await desk.ask(BATCH_A) for _ in range(6)]
        assert [task.done() for task in batch] == [True, True, True, True, False, False]
        live = await desk.ask(B)
        assert live.done()
        desk.queue.release(batch[0].result())
        desk.queue.release(batch[1].result())
        await settled()
        assert [task.done() for task in batch[4:]] == [False, False]  # two are in progress still, a quarter
        desk.queue.release(live.result())
        await settled()
        assert [task.done() for task in batch[4:]] == [True, True]

    asyncio.run(main())


def test_nothing_in_the_background_begins_while_a_live_answer_waits() -> None:
    async def main() -> None:
        desk = Desk(Capacity("engine", 8, 1000, 1000))
        running = await desk.ask(A, 700)
        waiting = await desk.ask(B, 500)
        batch = await desk.ask(BATCH_A, 10)
        assert (waiting.done(), batch.done()) == (False, False)
        desk.queue.release(running.result())
        await settled()
        assert (waiting.done(), batch.done()) == (True, True)

    asyncio.run(main())


def test_background_is_neither_refused_nor_counted_and_waits_as_long_as_it_takes() -> None:
    async def main() -> None:
        desk = Desk(EIGHT, limits=QueueLimits(requests=1, wait_s=0.01))
        batch = [await desk.ask(BATCH_A) for _ in range(30)]
        assert desk.queue.n_waiting == 0
        await asyncio.sleep(0.03)
        assert sum(task.done() for task in batch) == 4
        assert (await desk.ask(A)).done()
        for task in batch[4:]:
            task.cancel()

    asyncio.run(main())


def test_background_of_several_resources_takes_turns() -> None:
    async def main() -> None:
        desk = Desk(Capacity("engine", 2, 1000, 800))
        many = [await desk.ask(BATCH_A) for _ in range(3)]
        one = await desk.ask(BATCH_B)
        desk.queue.release(many[0].result())
        desk.queue.release(await many[1])
        assert (await one).resource_id == "b"
        assert not many[2].done()
        many[2].cancel()

    asyncio.run(main())


def test_background_answer_that_is_too_long_for_its_share_begins_on_an_idle_engine_alone() -> None:
    async def main() -> None:
        desk = Desk(EIGHT)
        live = await desk.ask(A)
        long = await desk.ask(BATCH_A, 1200)
        assert not long.done()
        desk.queue.release(live.result())
        await settled()
        assert long.done()
        assert not (await desk.ask(BATCH_A, 100)).done()

    asyncio.run(main())


def test_newest_background_answers_are_ended_for_a_live_one_that_finds_no_room() -> None:
    async def main() -> None:
        desk = Desk(EIGHT)
        batch = [await desk.ask(BATCH_A, 150) for _ in range(4)]
        ended: list[int] = []
        for number, task in enumerate(batch):
            background = task.result().background
            assert background is not None
            background.preempt = partial(ended.append, number)
        assert (await desk.ask(A, 900)).done()
        assert ended == []
        live = await desk.ask(B, 350)
        assert (live.done(), ended) == (False, [3, 2])  # 100 tokens are free
        await desk.ask(C, 50)
        assert ended == [3, 2]
        desk.queue.release(batch[3].result())
        desk.queue.release(batch[2].result())
        await settled()
        assert live.done()

    asyncio.run(main())


def test_nothing_in_the_background_is_ended_where_that_would_not_do() -> None:
    async def main() -> None:
        desk = Desk(EIGHT)
        batch = await desk.ask(BATCH_A, 100)
        assert (await desk.ask(A, 1000)).done()
        waiting = await desk.ask(B, 700)
        background = batch.result().background
        assert background is not None
        assert (waiting.done(), background.is_preempted) == (False, False)
        waiting.cancel()

    asyncio.run(main())


def test_answer_that_is_preempted_raises_and_one_that_is_cancelled_too_is_cancelled() -> None:
    async def main() -> None:
        async def generate(answer: BackgroundAnswer) -> None:
            with background_share.preemptible(answer):
                await asyncio.sleep(60)

        early, preempted, both, cancelled = (BackgroundAnswer(100) for _ in range(4))
        early.is_preempted = True  # before it has begun
        tasks = [asyncio.ensure_future(generate(answer)) for answer in (early, preempted, both, cancelled)]
        await settled()
        for answer in (preempted, both):
            answer.is_preempted = True
            answer.preempt()
        for task in tasks[2:]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        kinds = [Unavailable, Unavailable, asyncio.CancelledError, asyncio.CancelledError]
        assert [type(outcome) for outcome in outcomes] == kinds

    asyncio.run(asyncio.wait_for(main(), 10))
