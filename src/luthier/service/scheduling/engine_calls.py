"""Calls to engines: the answers of one request, each generated in a slot that was reserved for it."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from luthier.core.engine_ports import Address, Capacity, EmbeddingClient, EngineClient, EngineRequest
from luthier.core.errors import LuthierError
from luthier.core.inference.generation import EngineDelta, TokenLogProb, Usage
from luthier.service.scheduling import background_share, context_budget, prompt_tokens, slot_draining
from luthier.service.scheduling.admission import (
    AdmissionQueue,
    CacheOwner,
    QueuedRequest,
    QueueKey,
    QueueLimits,
)
from luthier.service.scheduling.background_share import BackgroundAnswer
from luthier.service.scheduling.embedding_calls import EmbeddingCalls
from luthier.service.scheduling.prefill_queue import LONG_TOKENS, PrefillQueue
from luthier.service.scheduling.prompt_scoring import PromptScoring
from luthier.service.scheduling.slot_draining import AbandonedReservation, SlotDraining

MAX_CONCURRENT_ANSWERS = 4
"""So many answers of one request are generated at a time: the engine's other slots are for other callers."""
MAX_CONCURRENT_TOKENIZATIONS = 2
"""Prompts of which an engine counts the tokens at a time: its threads are for answers first."""
UNBOUNDED = Capacity("", 1, 2**31, 2**31)
_BUFFERED_OUTPUTS = 64

Output = EngineDelta | Usage


@dataclass(frozen=True, slots=True)
class EngineCall:
    """Where a request's answers are generated, and in whose queue.

    `current_address` is called once an answer has its slot, for the engine's process may have been replaced while the
    answer waited. `prompt_field` is the caller's field for the prompt, for error messages.
    """

    address: Address
    current_address: Callable[[], Awaitable[Address]]
    queue_key: QueueKey
    model: str
    prompt_field: str


@dataclass(frozen=True, slots=True)
class _SizedRequest:
    """One answer's request, its prompt as token ids, and the tokens that prompt and answer need at most."""

    request: EngineRequest
    prompt: Sequence[int] = ()
    tokens: int = 0


@dataclass(slots=True)
class _ReservedSlot:
    """Where to generate, the fields that name the slot there, and the prompt tokens that its KV cache lacks."""

    address: Address
    fields: EngineRequest = field(default_factory=dict)
    uncached_tokens: int = 0
    prefill_queue: PrefillQueue = field(default_factory=PrefillQueue)
    background: BackgroundAnswer | None = None

    @property
    def is_in_long_prefill(self) -> bool:
        """Whether more of the prompt is left than the engine computes in one batch."""
        return self.uncached_tokens > LONG_TOKENS


_Admission = tuple[AdmissionQueue, QueuedRequest]


class EngineCalls:
    """The engine calls of a running service, with an admission queue before each engine. Lives on one event loop.

    An answer that its caller gave up is ended by closing its connection; its slot is free once the engine says so.
    """

    def __init__(
        self,
        client: EngineClient,
        limits: QueueLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
        embedder: EmbeddingClient | None = None,
    ) -> None:
        """`embedder` calls embedding models; None: this service has none."""
        self._client = client
        self._limits = limits or QueueLimits()
        self.embeddings = EmbeddingCalls(embedder, self._limits, clock)
        self._clock = clock
        self._queues: dict[str, AdmissionQueue] = {}
        self._scoring = PromptScoring(client, self._limits.requests)
        self._tokenizing = asyncio.Semaphore(MAX_CONCURRENT_TOKENIZATIONS)
        self._tokenizing_in_background = asyncio.Semaphore(1)
        self._draining = SlotDraining(client)

    async def generate(self, call: EngineCall, requests: Sequence[EngineRequest]) -> AsyncGenerator[tuple[int, Output]]:
        """The outputs of all answers as they come, each with the index of its request; several are generated at a time.

        Raises InvalidRequest, RateLimited, Unavailable and UpstreamFailed. When the caller closes the generator, the
        connections to the engine are closed, which frees its slots.
        """
        concurrency = asyncio.Semaphore(MAX_CONCURRENT_ANSWERS)
        buffer: asyncio.Queue[tuple[int, Output] | LuthierError | None] = asyncio.Queue(maxsize=_BUFFERED_OUTPUTS)
        with self._queued(call) as admission:

            async def generate_one(index: int, sized: _SizedRequest) -> None:
                """Puts one answer's outputs into the buffer, then None; its error instead, if it fails."""
                try:
                    async with (
                        concurrency,
                        self._reserved(call, sized, admission) as slot,
                        aclosing(self._outputs(call, sized, slot)) as outputs,
                    ):
                        with background_share.preemptible(slot.background):
                            async for output in outputs:
                                await buffer.put((index, output))
                    await buffer.put(None)
                except LuthierError as error:
                    await buffer.put(error)

            sized_requests = await self._sized(call, requests, admission)
            tasks = [asyncio.ensure_future(generate_one(index, sized)) for index, sized in enumerate(sized_requests)]
            try:
                running = len(tasks)
                while running:
                    match await buffer.get():
                        case None:
                            running -= 1
                        case LuthierError() as error:
                            raise error
                        case output:
                            yield output
            finally:
                await slot_draining.cancel(tasks)

    def n_waiting(self) -> int:
        """Requests that have no slot yet, before all engines."""
        return sum(queue.n_waiting for queue in self._queues.values())

    async def detokenize(self, call: EngineCall, token_ids: Sequence[int]) -> str:
        """The text of token ids, asked of the engine."""
        return await self._client.detokenize(call.address, token_ids)

    async def tokenize(self, call: EngineCall, prompt: str | Sequence[int]) -> Sequence[int]:
        """A prompt's token ids, by the engine's own tokenizer. Raises InvalidRequest for more than the context."""
        if not isinstance(prompt, str) and call.address.capacity is None:
            return prompt
        return await self.prompt_tokens(call, {"prompt": prompt})

    async def prompt_tokens(self, call: EngineCall, request: EngineRequest) -> Sequence[int]:
        """The token ids of a request's prompt, by the engine's own template and tokenizer.

        Raises InvalidRequest for more than the context.
        """
        capacity = call.address.capacity
        async with self._tokenizing:
            token_ids = await prompt_tokens.of_request(
                self._client, call.address, request, capacity or UNBOUNDED, call.prompt_field
            )
        if capacity is not None and len(token_ids) > context_budget.window(capacity):
            raise context_budget.too_long(capacity, len(token_ids), call.prompt_field)
        return token_ids

    async def prompt_log_probs(self, call: EngineCall, token_ids: Sequence[int], top: int) -> list[TokenLogProb]:
        """As `PromptScoring.score`, at the model's current address."""
        address = await call.current_address()
        return await self._scoring.score(address, call.queue_key.resource_id, token_ids, top)

    async def close(self) -> None:
        """Releases abandoned slots and closes the connections to engines."""
        await self._draining.close()
        await self._client.close()
        await self.embeddings.close()

    async def _outputs(self, call: EngineCall, sized: _SizedRequest, slot: _ReservedSlot) -> AsyncGenerator[Output]:
        """One answer's outputs; a long prompt waits for its turn to be prefilled."""
        request = {**sized.request, **slot.address.fields, **slot.fields}
        async with (
            slot.prefill_queue.turn(call.queue_key.resource_id, slot.uncached_tokens) as end_turn,
            aclosing(self._client.generate(slot.address, request)) as outputs,
        ):
            async for output in outputs:
                end_turn()
                slot.uncached_tokens = 0
                yield output

    @contextmanager
    def _queued(self, call: EngineCall) -> Iterator[_Admission | None]:
        """The engine's queue, made if need be, with this request in it; None for an engine that needs no queue.

        Raises RateLimited if the queue is full.
        """
        capacity = call.address.capacity
        if capacity is None:
            yield None
            return
        queue = self._queues.get(capacity.engine)
        if queue is None or queue.capacity != capacity:
            queue = self._queues[capacity.engine] = AdmissionQueue(capacity, self._limits, self._clock)
        with queue.queued(call.queue_key) as queued_request:
            yield queue, queued_request

    async def _sized(
        self, call: EngineCall, requests: Sequence[EngineRequest], admission: _Admission | None
    ) -> list[_SizedRequest]:
        """The requests with their `max_tokens`, and the tokens of context that each needs; a prompt that is repeated is
        tokenized once. Raises InvalidRequest for what can never fit.
        """
        if admission is None:
            return [_SizedRequest({"max_tokens": context_budget.DEFAULT_MAX_TOKENS, **request}) for request in requests]
        capacity = admission[0].capacity
        sized_requests = []
        previous: EngineRequest | None = None
        prompt: Sequence[int] = ()
        for request in requests:
            key = "messages" if "messages" in request else "prompt"
            if previous is None or request[key] != previous[key]:
                is_background = call.queue_key.is_background
                async with self._tokenizing_in_background if is_background else self._tokenizing:
                    prompt = await prompt_tokens.of_request(
                        self._client, call.address, request, capacity, call.prompt_field
                    )
            previous = request
            asked = request.get("max_tokens")
            assert asked is None or isinstance(asked, int)
            max_tokens = context_budget.answer_tokens(capacity, len(prompt), asked, len(requests), call.prompt_field)
            sized = {**request, "max_tokens": max_tokens}
            if call.address.takes_tokens:
                sized["prompt"] = list(prompt)
            sized_requests.append(_SizedRequest(sized, prompt, len(prompt) + max_tokens))
        return sized_requests

    @asynccontextmanager
    async def _reserved(
        self, call: EngineCall, sized: _SizedRequest, admission: _Admission | None
    ) -> AsyncIterator[_ReservedSlot]:
        """A slot reserved for the request until the exit; if the answer breaks off, until the engine has left the slot.

        A slot's KV cache is reused only for the same resource and model: otherwise `cached_tokens`, and the latency of
        an answer, would be a side channel from one tenant to another. Raises RateLimited.
        """
        if admission is None:
            yield _ReservedSlot(await call.current_address())
            return
        queue, queued_request = admission
        reservation = await queue.reserve(queued_request, call.model, sized.tokens, sized.prompt)
        address = cache_owner = slot = None
        is_complete = False
        try:
            address = await call.current_address()
            cache_owner = CacheOwner(address.url, call.queue_key.resource_id, call.model)
            is_own = reservation.slot.cache_owner == cache_owner
            cached_tokens = reservation.slot.common_prefix(sized.prompt) if is_own else 0
            if queue.capacity.takes_turns:
                key = call.queue_key
                slot = _ReservedSlot(
                    address, {"cache_scope": key.resource_id} | ({"is_background": True} if key.is_background else {})
                )
            else:
                fields = {"id_slot": reservation.slot.id, "cache_prompt": is_own}
                slot = _ReservedSlot(address, fields, len(sized.prompt) - cached_tokens, queue.prefill_queue)
            slot.background = reservation.background
            yield slot
            is_complete = True
        finally:
            if is_complete:
                queue.release(reservation, cache_owner, sized.prompt)
            elif address is None:
                queue.release(reservation, reservation.slot.cache_owner, reservation.slot.cached_prompt)
            else:
                is_in_long_prefill = slot is not None and slot.is_in_long_prefill
                self._draining.start(address, AbandonedReservation(queue, reservation, is_in_long_prefill))
