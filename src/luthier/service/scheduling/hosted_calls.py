"""Calls to engine hosts: the queue for slots, and its fairness between resources, is the host's, for all its callers.

A host that goes before the first output is no error: the next one is asked.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

from luthier.core.engine_ports import Address, EngineRequest
from luthier.core.inference import host_values
from luthier.core.inference.engine_hosts import HostClient, HostGone, Operation
from luthier.core.inference.generation import TokenLogProb
from luthier.service.scheduling.embedding_calls import MAX_CONCURRENT_TOKENIZATIONS, EmbeddingCall
from luthier.service.scheduling.engine_calls import EngineCall, Output

HOSTS_ASKED = 3
"""So many hosts are asked for one call at most."""

Gone = Callable[[str], None]
"""Is told the URL of a host that cannot be reached."""


@dataclass(slots=True)
class HostedVectors:
    """Implements calls_port.VectorCalls by hosts."""

    calls: "HostedCalls"
    tokenizing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_CONCURRENT_TOKENIZATIONS))

    async def embed(self, call: EmbeddingCall, inputs: Sequence[Sequence[int]]) -> list[bytes]:
        """As the port says."""
        on_hosts = EngineCall(call.address, call.current_address, call.queue_key, call.model, "input")
        found = await self.calls.ask(on_hosts, Operation.EMBED, inputs=[list(one) for one in inputs])
        return host_values.read_vectors(found)


class HostedCalls:
    """Implements calls_port.AnswerCalls by hosts; `Address.fields` of a call name its model there."""

    def __init__(self, client: HostClient, note_gone: Gone) -> None:
        """`note_gone` has the next addresses be those of other hosts."""
        self._client = client
        self._note_gone = note_gone
        self.embeddings = HostedVectors(self)

    async def generate(self, call: EngineCall, requests: Sequence[EngineRequest]) -> AsyncGenerator[tuple[int, Output]]:
        """As the port says. Once a part of an answer has come, a host that goes ends the call."""
        more = {"requests": list(requests)}
        async with aclosing(self._stream(call, Operation.GENERATE, more)) as values:
            async for value in values:
                index, output = cast(list[Any], value)
                yield index, host_values.read_output(output)

    def n_waiting(self) -> int:
        """None wait here: hosts count theirs."""
        return 0

    async def detokenize(self, call: EngineCall, token_ids: Sequence[int]) -> str:
        """As the port says."""
        return str(await self.ask(call, Operation.DETOKENIZE, tokens=list(token_ids)))

    async def tokenize(self, call: EngineCall, prompt: str | Sequence[int]) -> Sequence[int]:
        """As the port says."""
        asked = prompt if isinstance(prompt, str) else list(prompt)
        return cast(list[int], await self.ask(call, Operation.TOKENIZE, prompt=asked))

    async def prompt_tokens(self, call: EngineCall, request: EngineRequest) -> Sequence[int]:
        """As the port says."""
        return cast(list[int], await self.ask(call, Operation.PROMPT_TOKENS, request=request))

    async def prompt_log_probs(self, call: EngineCall, token_ids: Sequence[int], top: int) -> list[TokenLogProb]:
        """As the port says."""
        found = await self.ask(call, Operation.PROMPT_LOG_PROBS, tokens=list(token_ids), top=top)
        return host_values.read_log_probs(cast(list[Any], found))

    async def close(self) -> None:
        """As the port says."""
        await self._client.close()

    async def ask(self, call: EngineCall, operation: Operation, **more: object) -> object:
        """The one value of an answer. Raises as `AnswerCalls`."""
        async with aclosing(self._stream(call, operation, more)) as values:
            async for value in values:
                return value
        return None

    async def _stream(self, call: EngineCall, operation: Operation, more: EngineRequest) -> AsyncGenerator[object]:
        """The values of an answer, of the first host that does not go before it has sent one."""
        address, asked = call.address, 1
        while True:
            has_begun = False
            try:
                async with aclosing(self._client.stream(address.url, operation, _body(call, address, more))) as values:
                    async for value in values:
                        has_begun = True
                        yield value
                return
            except HostGone:
                self._note_gone(address.url)
                if has_begun or asked == HOSTS_ASKED:
                    raise
            asked += 1
            address = await call.current_address()


def _body(call: EngineCall, address: Address, more: EngineRequest) -> EngineRequest:
    """What a host is sent: the model, who asks in which queue, and what for."""
    key = call.queue_key
    caller = {"resource": key.resource_id, "target": key.target, "is_background": key.is_background}
    return {**address.fields, "caller": caller, "prompt_field": call.prompt_field, **more}
