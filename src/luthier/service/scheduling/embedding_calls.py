"""Calls to embedding models: a request's texts in batches, which resources send in turn."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

from luthier.core.engine_ports import Address, Capacity, EmbeddingClient
from luthier.core.errors import Unsupported
from luthier.service.scheduling.admission import AdmissionQueue, QueuedRequest, QueueKey, QueueLimits

MAX_BATCHES_AT_ONCE = 2
"""Of one request: one is computed while the next is on its way. The engine's others are for other callers."""
BATCH_TEXTS = 64
MAX_CONCURRENT_TOKENIZATIONS = 2
"""Requests whose texts are tokenized at a time, on all cores each."""
_ONE_BATCH = Capacity("", 1, 2**31, 2**31)
"""Of an engine that needs no queue."""


@dataclass(frozen=True, slots=True)
class EmbeddingCall:
    """Where a request's vectors are computed, and in whose queue; `current_address` as in `EngineCall`."""

    address: Address
    current_address: Callable[[], Awaitable[Address]]
    queue_key: QueueKey
    model: str


@dataclass(frozen=True, slots=True)
class _Batch:
    """Texts of one call to the engine: their places in the request."""

    places: tuple[int, ...]
    tokens: int


class EmbeddingCalls:
    """The calls of a running service, with an admission queue before each model. Lives on one event loop.

    Batches take the places of slots there: what of a request waits is its token ids, and nothing is kept of it after.
    """

    def __init__(
        self, client: EmbeddingClient | None, limits: QueueLimits, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`client` None is a service that serves no embedding models."""
        self._client = client
        self._limits = limits
        self._clock = clock
        self._queues: dict[str, AdmissionQueue] = {}
        self.tokenizing = asyncio.Semaphore(MAX_CONCURRENT_TOKENIZATIONS)
        """To be held while a request's texts are tokenized."""

    async def embed(self, call: EmbeddingCall, inputs: Sequence[Sequence[int]]) -> list[bytes]:
        """The vectors of all inputs, in their order: little-endian float32 of length 1.

        Raises RateLimited for a full queue or a long wait, Unavailable and UpstreamFailed. A caller that is cancelled
        leaves nothing behind but the batch that the engine computes.
        """
        if self._client is None:
            raise Unsupported("embeddings_not_supported", "This service was started without an engine for embeddings.")
        capacity = call.address.capacity or _ONE_BATCH
        queue = self._queues.get(capacity.engine)
        if queue is None or queue.capacity != capacity:
            queue = self._queues[capacity.engine] = AdmissionQueue(capacity, self._limits, self._clock)
        client = self._client
        vectors: list[bytes] = [b""] * len(inputs)
        pending = iter(_batches(inputs, capacity))
        with queue.queued(call.queue_key) as request:

            async def send_batches() -> None:
                """Sends batches one after another until none is left."""
                for batch in pending:
                    found = await _send(client, queue, request, call, batch, [inputs[place] for place in batch.places])
                    for place, vector in zip(batch.places, found, strict=True):
                        vectors[place] = vector

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(MAX_BATCHES_AT_ONCE):
                        group.create_task(send_batches())
            except ExceptionGroup as errors:
                raise errors.exceptions[0] from None
        return vectors

    async def close(self) -> None:
        """Closes the connections to engines."""
        if self._client is not None:
            await self._client.close()


async def _send(
    client: EmbeddingClient,
    queue: AdmissionQueue,
    request: QueuedRequest,
    call: EmbeddingCall,
    batch: _Batch,
    inputs: Sequence[Sequence[int]],
) -> list[bytes]:
    """The vectors of one batch, once it has its place."""
    reservation = await queue.reserve(request, call.model, batch.tokens, ())
    try:
        return await client.embed(await call.current_address(), inputs)
    finally:
        queue.release(reservation)


def _batches(inputs: Sequence[Sequence[int]], capacity: Capacity) -> Iterator[_Batch]:
    """The inputs in batches of `BATCH_TEXTS` and a slot's share of tokens at most, or one longer text.

    Texts of one length come together: llama.cpp computes what is in a batch side by side.
    """
    share = capacity.context_tokens // capacity.slots
    places: list[int] = []
    tokens = 0
    for place in sorted(range(len(inputs)), key=lambda place: len(inputs[place])):
        length = len(inputs[place])
        if places and (len(places) == BATCH_TEXTS or tokens + length > share):
            yield _Batch(tuple(places), tokens)
            places, tokens = [], 0
        places.append(place)
        tokens += length
    if places:
        yield _Batch(tuple(places), tokens)
