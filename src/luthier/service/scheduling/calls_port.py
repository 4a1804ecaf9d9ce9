"""What answers need of calls to engines: by this process's own queues, or by those of hosts."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from luthier.core.engine_ports import EngineRequest
from luthier.core.inference.generation import TokenLogProb
from luthier.service.scheduling.embedding_calls import EmbeddingCall
from luthier.service.scheduling.engine_calls import EngineCall, Output


class VectorCalls(Protocol):
    """Implemented by `embedding_calls.EmbeddingCalls` and `hosted_calls.HostedVectors`. Lives on one event loop."""

    tokenizing: asyncio.Semaphore
    """To be held while a request's texts are tokenized."""

    async def embed(self, call: EmbeddingCall, inputs: Sequence[Sequence[int]]) -> list[bytes]:
        """The vectors of all inputs, in their order: little-endian float32 of length 1.

        Raises RateLimited, Unavailable and UpstreamFailed.
        """
        ...


class AnswerCalls(Protocol):
    """Implemented by `engine_calls.EngineCalls` and `hosted_calls.HostedCalls`. Lives on one event loop.

    Every call raises InvalidRequest for what the engine refuses or has no room for, RateLimited for a full queue,
    Unavailable and UpstreamFailed.
    """

    @property
    def embeddings(self) -> VectorCalls:
        """The calls to embedding models."""
        ...

    def generate(self, call: EngineCall, requests: Sequence[EngineRequest]) -> AsyncGenerator[tuple[int, Output]]:
        """The outputs of all answers as they come, each with the index of its request. Closing it ends them."""
        ...

    def n_waiting(self) -> int:
        """Requests that have no slot yet, in the queues of this process."""
        ...

    async def detokenize(self, call: EngineCall, token_ids: Sequence[int]) -> str:
        """The text of token ids."""
        ...

    async def tokenize(self, call: EngineCall, prompt: str | Sequence[int]) -> Sequence[int]:
        """A prompt's token ids, by the engine's own tokenizer."""
        ...

    async def prompt_tokens(self, call: EngineCall, request: EngineRequest) -> Sequence[int]:
        """The token ids of a request's prompt, by the engine's own template and tokenizer."""
        ...

    async def prompt_log_probs(self, call: EngineCall, token_ids: Sequence[int], top: int) -> list[TokenLogProb]:
        """A prompt's own tokens, each with the `top` likeliest in its position, and last what would come next."""
        ...

    async def close(self) -> None:
        """Closes the connections to engines; no call may follow."""
        ...
