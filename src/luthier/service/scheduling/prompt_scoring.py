"""Log-probabilities of prompts' own tokens: an engine scores one prompt at a time, fairly between resources."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from luthier.core.engine_ports import Address, EngineClient
from luthier.core.errors import RateLimited, Unsupported
from luthier.core.inference.generation import TokenLogProb
from luthier.service.scheduling.prefill_queue import LONG_TOKENS, PrefillQueue

RETRY_AFTER_S = 5.0


class PromptScoring:
    """A queue before each engine. Lives on one event loop.

    In all queues together at most `max_pending` prompts of one resource wait or are being scored.
    """

    def __init__(self, client: EngineClient, max_pending: int) -> None:
        self._client = client
        self._max_pending = max_pending
        self._queues: defaultdict[str, PrefillQueue] = defaultdict(PrefillQueue)
        self._pending: Counter[str] = Counter()

    async def score(self, address: Address, resource_id: str, token_ids: Sequence[int], top: int) -> list[TokenLogProb]:
        """The prompt's tokens and an entry for what would come next (`EngineClient.prompt_log_probs`).

        Raises Unsupported for an engine that tells none, RateLimited if too many wait, Unavailable and UpstreamFailed.
        """
        if address.scores_url is None and not address.takes_tokens:
            text = "the engine of this model tells no log-probabilities of a prompt; ask without echo."
            raise Unsupported("prompt_logprobs_not_supported", text, "logprobs")
        if self._pending[resource_id] >= self._max_pending:
            text = f"{self._max_pending} prompts wait for their log-probabilities already. Ask again in a moment."
            raise RateLimited("engine_busy", text, RETRY_AFTER_S)
        self._pending[resource_id] += 1
        try:
            # However short a prompt is, it has a turn of its own.
            engine = address.capacity.engine if address.capacity else address.url
            async with self._queues[engine].turn(resource_id, max(len(token_ids), LONG_TOKENS + 1)):
                return await self._client.prompt_log_probs(address, token_ids, top)
        finally:
            self._pending[resource_id] -= 1
            if not self._pending[resource_id]:
                del self._pending[resource_id]
