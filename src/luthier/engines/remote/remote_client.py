"""Calls to models behind an OpenAI-compatible completions route."""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2

from luthier.core.engine_ports import Address, EngineRequest
from luthier.core.errors import Unavailable, UpstreamFailed
from luthier.core.inference.generation import MIN_LOG_PROB, EngineDelta, TokenLogProb, Usage
from luthier.engines.remote import completions
from luthier.engines.remote.completions import Vocabulary

CONNECT_S = 10.0
STALLED_S = 300.0
"""A server that sends nothing at all about an answer for so long is stalled: it may queue calls of others."""
AT_ONCE = 8
"""Requests of one call that a server has at a time."""
_RETRY_S = 5.0


class RemoteClient:
    """Implements core.engine_ports.EngineClient. Connections are kept; tokens are those of the base's own files."""

    def __init__(self, stalled_s: float = STALLED_S) -> None:
        """Builds one HTTP client for all servers; connects to none."""
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=64)
        timeout = httpx2.Timeout(stalled_s, connect=CONNECT_S)
        self._http = httpx2.AsyncClient(limits=limits, timeout=timeout, trust_env=False)

    async def close(self) -> None:
        """Closes the connections; no call may follow."""
        await self._http.aclose()

    async def generate(self, address: Address, request: EngineRequest) -> AsyncGenerator[EngineDelta | Usage]:
        """One answer as it is generated, with its usage; closing the generator closes the request.

        Raises InvalidRequest, Unavailable and UpstreamFailed.
        """
        known = await self._vocabulary(address)
        body = completions.answer_body(address, request)
        url = f"{completions.server_url(address)}/completions"
        try:
            async with self._http.stream("POST", url, json=body, headers=address.headers) as response:
                if response.status_code != 200:
                    raise completions.error_of(response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    if line == "data: [DONE]":
                        return
                    for value in completions.values(line, known, body.get("logprobs")):
                        yield value
        except httpx2.TransportError as error:
            raise gone() from error
        raise gone()

    async def render(self, address: Address, request: EngineRequest) -> str:
        """Never asked: `Address.takes_tokens`. Raises UpstreamFailed."""
        raise UpstreamFailed("engine_failed", "This engine takes prompts in tokens alone.")

    async def tokenize(self, address: Address, text: str) -> Sequence[int]:
        """The token ids of a prompt's text, those that begin every prompt added."""
        known = await self._vocabulary(address)
        return list(known.tokenizer.encode(text, add_special_tokens=True).ids)

    async def detokenize(self, address: Address, token_ids: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""
        known = await self._vocabulary(address)
        return str(known.tokenizer.decode(list(token_ids), skip_special_tokens=False))

    async def prompt_log_probs(self, address: Address, token_ids: Sequence[int], top: int) -> list[TokenLogProb]:
        """As the port says: one entry more than `token_ids`. Asks for each place on its own, AT_ONCE at a time.

        A token that is not among the likeliest of its place has the lowest log-probability that can be told. Raises as
        `generate`.
        """
        known, scope, room = await self._vocabulary(address), uuid.uuid4().hex, asyncio.Semaphore(AT_ONCE)
        most = completions.most_alternatives(address)

        async def ask(n: int) -> list[TokenLogProb]:
            """The likeliest tokens behind the first `n`."""
            body = completions.next_token_body(address, token_ids[:n], most, scope)
            async with room:
                answer = await self._complete(address, body)
            entries = list(completions.answer_log_probs(answer["choices"][0].get("logprobs") or {}, known, most))
            if not entries:
                raise UpstreamFailed("engine_failed", "The server behind this model gives no log-probabilities.")
            return list(entries[0].top)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(n)) for n in range(1, len(token_ids) + 1)]
        except ExceptionGroup as errors:  # the first has ended all others
            raise errors.exceptions[0] from None
        places = [task.result() for task in tasks]
        entries = [completions.entry(token_ids[0], None, known)]
        for id, likeliest in zip(token_ids[1:], places, strict=False):
            own = completions.entry(id, None, known)
            found = next((one.log_prob for one in likeliest if one.bytes == own.bytes), MIN_LOG_PROB)
            entries.append(replace(own, log_prob=found, top=likeliest[:top]))
        return [*entries, TokenLogProb("", [], MIN_LOG_PROB, places[-1][:top])]

    async def _complete(self, address: Address, body: Mapping[str, Any]) -> Any:
        """The answer to a completion that is not streamed. Raises as `generate`."""
        url = f"{completions.server_url(address)}/completions"
        try:
            response = await self._http.post(url, json=body, headers=address.headers)
        except httpx2.TransportError as error:
            raise gone() from error
        if response.status_code != 200:
            raise completions.error_of(response.status_code, response.content)
        return response.json()

    async def busy_slots(self, address: Address) -> set[int] | None:
        """None are named: a server ends what nobody waits for by itself."""
        return set()

    async def _vocabulary(self, address: Address) -> Vocabulary:
        """The vocabulary of the address's base model; read in a thread, once."""
        return await asyncio.to_thread(completions.vocabulary, Path(str(address.fields["tokenizer"])))


def gone() -> Unavailable:
    """The error for a server that cannot be reached, or ends in the middle of an answer."""
    return Unavailable(
        "engine_gone",
        "The server behind this model cannot be reached, or ended in the middle of the call. Ask again.",
        retry_after_s=_RETRY_S,
    )
