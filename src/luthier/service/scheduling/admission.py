"""Whose answer an engine computes next: slots and context are reserved before the call, fairly between resources."""

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile

from luthier.core.engine_ports import Capacity
from luthier.core.errors import RateLimited
from luthier.service.scheduling.background_share import BackgroundAnswer, BackgroundShare
from luthier.service.scheduling.prefill_queue import PrefillQueue

MAX_QUEUED_FACTOR = 8
"""An engine's queue holds so many times what one resource may have waiting for one deployment."""
MAX_BYPASS_S = 2.0
"""Smaller requests may bypass one that does not fit for so long at most; then room is kept until it fits."""
MIN_SLOTS_TO_KEEP_ONE = 4
"""With so many slots, the last one and its share of the context are for a resource that has no answer in progress."""
_INITIAL_ANSWER_S = 5.0
_LAST_ANSWER_WEIGHT = 0.2


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What may wait: `requests` of one resource for one deployment, each for at most `wait_s` seconds."""

    requests: int = 64
    wait_s: float = 60.0


@dataclass(frozen=True, slots=True)
class QueueKey:
    """Whose requests for what are counted together: a resource, and the deployment or model that it calls.

    Those that are `is_background` begin only if no other waits; they wait as long as it takes, and are not counted.
    """

    resource_id: str
    target: str
    is_background: bool = False


@dataclass(frozen=True, slots=True)
class CacheOwner:
    """Who may reuse a slot's KV cache: one resource, with one model, in one process."""

    url: str
    resource_id: str
    model: str


@dataclass(slots=True, eq=False)
class Slot:
    """One of the engine's slots, and what its KV cache holds; `cache_owner` is None if that is not known.

    `cached_prompt` are token ids.
    """

    id: int
    cache_owner: CacheOwner | None = None
    cached_prompt: Sequence[int] | str = ()

    def common_prefix(self, prompt: Sequence[int] | str) -> int:
        """How many tokens at the beginning of the prompt the KV cache holds."""
        pairs = zip(self.cached_prompt, prompt, strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


@dataclass(slots=True, eq=False)
class Reservation:
    """A slot and so many tokens of the context, held for one answer from `since` on (monotonic seconds).

    `background` counts it apart, if it is in the background.
    """

    slot: Slot
    tokens: int
    resource_id: str
    since: float
    background: BackgroundAnswer | None = None


@dataclass(slots=True, eq=False)
class _PendingAnswer:
    """An answer that waits since `since` (monotonic seconds) for its reservation, which is the future's result."""

    resource_id: str
    model: str
    tokens: int
    prompt: Sequence[int] | str
    since: float
    reservation: "asyncio.Future[Reservation]"
    is_background: bool


_Pending = dict[str, deque[_PendingAnswer]]
"""By resource, in round-robin order."""


@dataclass(slots=True, eq=False)
class QueuedRequest:
    """A request that the queue counts until its first answer has a reservation."""

    key: QueueKey
    is_waiting: bool = True


class AdmissionQueue:
    """The queue before one engine, for its slots and its context; resources are served in round-robin order.

    Lives on one event loop; every reservation must be given back by `release`. It does not call the engine itself.
    """

    def __init__(self, capacity: Capacity, limits: QueueLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self.capacity = capacity
        self.prefill_queue = PrefillQueue()
        self._limits = limits
        self._clock = clock
        self._idle = [Slot(id) for id in range(capacity.slots)]  # least recently used first
        self._free_tokens = capacity.context_tokens
        self._running: Counter[str] = Counter()
        self._pending: _Pending = {}
        self._pending_background: _Pending = {}
        self._share = BackgroundShare(capacity)
        self._waiting: Counter[QueueKey] = Counter()
        self._mean_answer_s = _INITIAL_ANSWER_S
        keeps_one = capacity.slots >= MIN_SLOTS_TO_KEEP_ONE
        self._kept_slots, self._kept_tokens = (1, capacity.context_tokens // capacity.slots) if keeps_one else (0, 0)

    @property
    def n_waiting(self) -> int:
        """Requests in the queue, whose first answer has no reservation yet."""
        return self._waiting.total()

    @contextmanager
    def queued(self, key: QueueKey) -> Iterator[QueuedRequest]:
        """Counts a request as waiting, from before its prompt is tokenized to the exit from the context at the latest.

        Raises RateLimited if the queue is full, for this resource and target or for all; never in the background.
        """
        if key.is_background:
            yield QueuedRequest(key, is_waiting=False)
            return
        if self._waiting[key] >= self._limits.requests:
            raise self._refusal(f"{self._waiting[key]} requests wait for {key.target} already, the most that may")
        if self._waiting.total() >= self._limits.requests * MAX_QUEUED_FACTOR:
            raise self._refusal(f"{self._waiting.total()} requests wait for this engine already, the most that may")
        request = QueuedRequest(key)
        self._waiting[key] += 1
        try:
            yield request
        finally:
            self._end_waiting(request)

    async def reserve(
        self, request: QueuedRequest, model: str, tokens: int, prompt: Sequence[int] | str
    ) -> Reservation:
        """Waits until the answer fits, and reserves a slot and `tokens` of the context for it.

        Of several idle slots the one whose KV cache has the longest common prefix with `prompt` is taken. Raises
        RateLimited for a first answer that waits too long; a caller that is cancelled leaves nothing reserved.
        """
        resource_id = request.key.resource_id
        future: asyncio.Future[Reservation] = asyncio.get_running_loop().create_future()
        answer = _PendingAnswer(resource_id, model, tokens, prompt, self._clock(), future, request.key.is_background)
        self._queue_of(answer).setdefault(resource_id, deque()).append(answer)
        self._admit()
        reservation = None
        try:
            async with asyncio.timeout(self._limits.wait_s if request.is_waiting else None):
                reservation = await future
        except TimeoutError:
            waited = f"this request waited {self._limits.wait_s:g} seconds for {request.key.target}"
            raise self._refusal(f"{waited}, the longest that one may") from None
        finally:
            if reservation is None:
                self._withdraw(answer)
        self._end_waiting(request)
        return reservation

    def release(
        self, reservation: Reservation, cache_owner: CacheOwner | None = None, prompt: Sequence[int] | str = ()
    ) -> None:
        """Gives a reservation back, and reserves for answers that fit now.

        `cache_owner` may reuse the slot's KV cache, which holds `prompt`; None if its state is not known.
        """
        reservation.slot.cache_owner, reservation.slot.cached_prompt = cache_owner, prompt
        self._idle.append(reservation.slot)
        self._free_tokens += reservation.tokens
        if reservation.background is not None:
            self._share.remove(reservation.background)
        else:
            self._running -= Counter({reservation.resource_id: 1})
            answer_s = self._clock() - reservation.since
            self._mean_answer_s += (answer_s - self._mean_answer_s) * _LAST_ANSWER_WEIGHT
        self._admit()

    def _end_waiting(self, request: QueuedRequest) -> None:
        """No longer counts the request as waiting; may be called twice."""
        if request.is_waiting:
            request.is_waiting = False
            self._waiting -= Counter({request.key: 1})

    def _withdraw(self, answer: _PendingAnswer) -> None:
        """Removes an answer whose caller has gone; a reservation that was made for it meanwhile is released."""
        if answer.reservation.done() and not answer.reservation.cancelled():
            unused = answer.reservation.result()
            self.release(unused, unused.slot.cache_owner, unused.slot.cached_prompt)
            return
        answer.reservation.cancel()
        pending = (queue := self._queue_of(answer)).get(answer.resource_id, deque())
        if answer in pending:
            pending.remove(answer)
        if not pending:
            queue.pop(answer.resource_id, None)
        self._admit()

    def _queue_of(self, answer: _PendingAnswer) -> _Pending:
        """The answers among which it waits: live ones, or those in the background."""
        return self._pending_background if answer.is_background else self._pending

    def _admit(self) -> None:
        """Sets the reservations of pending answers for as long as one fits; called after whatever may make room."""
        while (answer := self._next()) is not None:
            pending = (queue := self._queue_of(answer)).pop(answer.resource_id)
            pending.popleft()
            if pending:
                queue[answer.resource_id] = pending  # behind the other resources
            if answer.reservation.cancelled():
                continue
            slot = self._best_slot(answer)
            self._idle.remove(slot)
            self._free_tokens -= answer.tokens
            reserved = Reservation(slot, answer.tokens, answer.resource_id, self._clock())
            if answer.is_background:
                reserved.background = self._share.add(answer.tokens)
            else:
                self._running[answer.resource_id] += 1
            answer.reservation.set_result(reserved)
        self._preempt()

    def _preempt(self) -> None:
        """Ends answers in the background for the live answer that has waited longest, if that gives it room."""
        heads = (pending[0] for pending in self._pending.values())
        oldest = min(heads, key=lambda answer: answer.since, default=None)
        if oldest is not None:
            slots, tokens = self._kept(oldest)
            self._share.make_room(slots + 1 - len(self._idle), tokens + oldest.tokens - self._free_tokens)

    def _next(self) -> _PendingAnswer | None:
        """The pending answer to reserve for now: one in the background only if no other waits. None if none fits."""
        if self._pending:
            return self._next_live()
        has_live, idle, free = self._running.total() > 0, len(self._idle), self._free_tokens
        heads = (pending[0] for pending in self._pending_background.values())
        return next((answer for answer in heads if self._share.admits(answer.tokens, has_live, idle, free)), None)

    def _next_live(self) -> _PendingAnswer | None:
        """The live answer to reserve for now, resources in round-robin order; None if none fits.

        None too while room is kept: a resource without any answer in progress has waited for MAX_BYPASS_S.
        """
        heads = [pending[0] for pending in self._pending.values()]
        starved = [answer for answer in heads if not self._running[answer.resource_id] and not self._fits(answer)]
        oldest = min(starved, key=lambda answer: answer.since, default=None)
        if oldest is not None and self._clock() - oldest.since >= MAX_BYPASS_S:
            return None
        return next((answer for answer in heads if self._fits(answer)), None)

    def _fits(self, answer: _PendingAnswer) -> bool:
        """Whether slot and context are free for the answer, beside what is kept from it."""
        slots, tokens = self._kept(answer)
        return len(self._idle) > slots and self._free_tokens - tokens >= answer.tokens

    def _kept(self, answer: _PendingAnswer) -> tuple[int, int]:
        """The slots and tokens that a live answer leaves free: some, if its resource has one in progress."""
        return (self._kept_slots, self._kept_tokens) if self._running[answer.resource_id] > 0 else (0, 0)

    def _best_slot(self, answer: _PendingAnswer) -> Slot:
        """The idle slot of the same resource and model with the longest common prefix; else the least recently used."""
        own = [
            slot
            for slot in self._idle
            if slot.cache_owner is not None
            and (slot.cache_owner.resource_id, slot.cache_owner.model) == (answer.resource_id, answer.model)
        ]
        best = max(own, key=lambda slot: slot.common_prefix(answer.prompt), default=None)
        return best if best is not None and best.common_prefix(answer.prompt) else self._idle[0]

    def _refusal(self, reason: str) -> RateLimited:
        """The error for a full queue or a long wait, with an estimate of the seconds after which to retry."""
        ahead = self._waiting.total() + 1
        estimated_s = max(1.0, self._mean_answer_s * ahead / self.capacity.slots)
        wait_s = math.ceil(min(estimated_s, max(1.0, self._limits.wait_s)))
        return RateLimited(
            "rate_limit_exceeded",
            f"The engine is currently overloaded, please try again later: {reason}. Please retry after {wait_s} "
            f"second{'' if wait_s == 1 else 's'}.",
            wait_s,
        )
