"""Reservations whose caller has gone: each is kept until the engine has stopped work on its slot."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from luthier.core.engine_ports import Address, EngineClient
from luthier.service.scheduling.admission import AdmissionQueue, Reservation

DRAIN_POLL_S = 0.15
PREFILL_DRAIN_POLL_S = 1.3


@dataclass(frozen=True, slots=True)
class AbandonedReservation:
    """A reservation whose caller has gone, while the engine still works on its slot."""

    queue: AdmissionQueue
    reservation: Reservation
    is_in_long_prefill: bool

    def release(self) -> None:
        """Gives the reservation back; what the slot's KV cache holds is not known."""
        self.queue.release(self.reservation)


class SlotDraining:
    """Releases abandoned reservations, by one polling task for each engine process. Lives on one event loop."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client
        self._by_engine: dict[str, dict[int, AbandonedReservation]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def start(self, address: Address, abandoned: AbandonedReservation) -> None:
        """Keeps a reservation until the engine has stopped work on its slot; releases it at once after `close`."""
        if self._is_closed:
            abandoned.release()
            return
        by_slot = self._by_engine.setdefault(address.url, {})
        by_slot[abandoned.reservation.slot.id] = abandoned
        if len(by_slot) == 1:
            task = asyncio.ensure_future(self._drain(address, by_slot))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Ends all polling, and releases what is still kept."""
        self._is_closed = True
        await cancel(list(self._tasks))

    async def _drain(self, address: Address, by_slot: dict[int, AbandonedReservation]) -> None:
        """Polls one engine process until all abandoned slots are free, and releases their reservations.

        llama.cpp notices that a caller has gone when it writes the next token. While it prefills a long prompt, each
        poll keeps it from noticing (docs/serving.md): polls are rare then, as long as nothing changes.
        """
        poll_s = DRAIN_POLL_S
        try:
            while by_slot:
                before = set(by_slot)
                await asyncio.sleep(poll_s)
                busy = await self._client.busy_slots(address)
                free = before if busy is None else before - busy
                for slot in free:
                    by_slot.pop(slot).release()
                is_prefilling = any(abandoned.is_in_long_prefill for abandoned in by_slot.values())
                has_changed = bool(free or set(by_slot) - before)
                poll_s = DRAIN_POLL_S if has_changed or not is_prefilling else PREFILL_DRAIN_POLL_S
        finally:
            for abandoned in by_slot.values():  # the service closes, or nobody can say what the engine works on
                abandoned.release()
            self._by_engine.pop(address.url, None)


async def cancel(tasks: Sequence["asyncio.Future[Any]"]) -> None:
    """Cancels tasks and waits for their end; what they raise is dropped."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
