"""Calls to llama.cpp's engines over HTTP: one client for the life of a service, time limits, an engine's errors.

Our own engine is called by `native.client`; `choice.ChosenEngineClient` picks between them.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx2

from luthier.core.engine_ports import Address, EngineRequest
from luthier.core.errors import InvalidRequest, LuthierError, Unavailable, UpstreamFailed
from luthier.core.inference.generation import (
    MIN_LOG_PROB,
    EngineDelta,
    FinishReason,
    TokenLogProb,
    ToolCallDelta,
    Usage,
)

CONNECT_S = 10.0
STALLED_S = 120.0
"""An engine from which no call receives anything for so long is stalled. It reports progress to each caller after each
batch of the prompt and each token, but it prefills one prompt after another: a single call may wait for longer."""
_SLOTS_TIMEOUT_S = 5.0
_RESTART_S = 5.0
_TIMEOUT = httpx2.Timeout(STALLED_S, connect=CONNECT_S)
_NO_READ_TIMEOUT = httpx2.Timeout(None, connect=CONNECT_S)
_PROMPT_FIELDS = ("messages", "tools", "tool_choice", "parallel_tool_calls")

Json = Mapping[str, Any]


class HttpEngineClient:
    """Implements core.engine_ports.EngineClient. Connections are not kept alive: an engine may close idle ones.

    Engines are on this machine or a private network: no TLS context is built, and no proxy is used. The number of
    connections is limited by the queue (`service.scheduling.admission`), not by the client.
    """

    def __init__(self, stalled_s: float = STALLED_S) -> None:
        """`stalled_s`: so many seconds without a byte from an engine end the answers that it is generating."""
        self._stalled_s = stalled_s
        self._received_at: dict[str, float] = {}
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
        self._http = httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(verify=False, trust_env=False, limits=limits), trust_env=False
        )

    async def close(self) -> None:
        """Closes the HTTP client; nothing can be called afterwards."""
        await self._http.aclose()

    async def generate(self, address: Address, request: EngineRequest) -> AsyncGenerator[EngineDelta | Usage]:
        """One answer as it is generated, with its usage.

        Answers are always streamed: only then does llama.cpp notice that the caller has gone. Raises InvalidRequest for
        what the engine refuses, Unavailable if it is gone, stalled or breaks off, and UpstreamFailed for an error of
        its own.
        """
        path = "/chat/completions" if "messages" in request else "/completions"
        body = {**request, "stream": True, "stream_options": {"include_usage": True}}
        options: dict[str, Any] = {"json": body, "headers": address.headers, "timeout": _NO_READ_TIMEOUT}
        try:
            async with (
                self._stall_timeout(address) as on_receive,
                self._http.stream("POST", address.url + path, **options) as response,
            ):
                if response.status_code != 200:
                    raise _error_of(response.status_code, await response.aread())
                async for line in response.aiter_lines():
                    on_receive()
                    if line == "data: [DONE]":
                        return
                    for value in _values(line):
                        yield value
        except TimeoutError as error:
            raise _stalled() from error
        except httpx2.TransportError as error:
            raise disconnected(error) from error
        raise disconnected(None)

    async def render(self, address: Address, request: EngineRequest) -> str:
        """The prompt by the model's own chat template, from the request's `messages` and `tools`.

        Raises as `_post` does.
        """
        fields = {key: request[key] for key in _PROMPT_FIELDS if key in request}
        return str((await self._post(address, "/apply-template", fields))["prompt"])

    async def tokenize(self, address: Address, text: str) -> Sequence[int]:
        """Token ids of a text: special tokens are parsed, those that begin every prompt added.

        Raises as `_post` does.
        """
        body = {"content": text, "add_special": True, "parse_special": True}
        token_ids: list[int] = (await self._post(address, "/tokenize", body))["tokens"]
        return token_ids

    async def detokenize(self, address: Address, token_ids: Sequence[int]) -> str:
        """The text of token ids, by the engine's tokenizer. Raises as `_post` does."""
        return str((await self._post(address, "/detokenize", {"tokens": list(token_ids)}))["content"])

    async def prompt_log_probs(self, address: Address, token_ids: Sequence[int], top: int) -> list[TokenLogProb]:
        """As the port says, from the engine's scores server (`scores_url`), with the address's adapter; no time limit.

        Raises Unavailable if the connection breaks, and what `_error_of` makes of another status than 200.
        """
        body = {"tokens": list(token_ids), "lora": address.fields.get("lora", []), "top": top}
        url = f"{address.scores_url}/prompt_logprobs"
        try:
            response = await self._http.post(url, json=body, headers=address.headers, timeout=_NO_READ_TIMEOUT)
        except httpx2.TransportError as error:
            raise disconnected(error) from error
        if response.status_code != 200:
            raise _error_of(response.status_code, response.content)
        return [_log_prob(entry) for entry in response.json()["content"]]

    async def busy_slots(self, address: Address) -> set[int] | None:
        """Slots with a request in progress; all of them if the engine does not answer in time, None if it is gone."""
        try:
            url = f"{_server_url(address)}/slots"
            response = await self._http.get(url, headers=address.headers, timeout=_SLOTS_TIMEOUT_S)
        except httpx2.TimeoutException:
            return set(range(address.capacity.slots)) if address.capacity else set()
        except httpx2.TransportError:
            return None
        try:
            return {slot["id"] for slot in response.json() if slot["is_processing"]}
        except (ValueError, TypeError, KeyError):  # another server has that port now, and no slots for us
            return None

    async def _post(self, address: Address, path: str, body: Json) -> Json:
        """The JSON object that a path beside the OpenAI-compatible ones answers.

        Raises Unavailable if the engine is gone or stalled, and what `_error_of` makes of another status than 200.
        """
        url = _server_url(address) + path
        try:
            response = await self._http.post(url, json=body, headers=address.headers, timeout=_TIMEOUT)
        except httpx2.TransportError as error:
            raise disconnected(error) from error
        if response.status_code != 200:
            raise _error_of(response.status_code, response.content)
        answer = response.json()
        assert isinstance(answer, dict)
        return answer

    @asynccontextmanager
    async def _stall_timeout(self, address: Address) -> AsyncIterator[Callable[[], None]]:
        """Raises TimeoutError once no call to the engine has received anything for `stalled_s`.

        The callback that it gives is to be called for whatever the engine sends.
        """
        loop = asyncio.get_running_loop()
        started_at = loop.time()
        timer: asyncio.TimerHandle | None = None
        async with asyncio.timeout(None) as limit:

            def on_receive() -> None:
                """Notes that the engine is alive, for all calls to it."""
                self._received_at[address.url] = loop.time()

            def check() -> None:
                """The timer: ends this call if the engine has been silent for too long, else sets itself anew."""
                nonlocal timer
                left_s = max(started_at, self._received_at.get(address.url, 0.0)) + self._stalled_s - loop.time()
                if left_s > 0:
                    timer = loop.call_later(left_s, check)
                else:
                    limit.reschedule(loop.time())

            timer = loop.call_later(self._stalled_s, check)
            try:
                yield on_receive
            finally:
                timer.cancel()


def _server_url(address: Address) -> str:
    return address.url.removesuffix("/v1")


def _values(line: str) -> Iterator[EngineDelta | Usage]:
    """What a line of the engine's event stream says: none, one or more values.

    Raises what `_error_of` makes of an error.
    """
    if line.startswith("error: "):
        raise _error_of(500, line.removeprefix("error: ").encode())
    if not line.startswith("data: "):
        return
    chunk = json.loads(line.removeprefix("data: "))
    if "error" in chunk:
        raise _error_of(int(chunk["error"].get("code") or 500), json.dumps(chunk).encode())
    if "prompt_progress" in chunk:  # it only says that the engine is alive
        return
    if chunk.get("usage"):
        yield _usage(chunk["usage"])
    for choice in chunk.get("choices") or ():
        yield _delta(choice)


def _usage(usage: Json) -> Usage:
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    return Usage(usage["prompt_tokens"], usage["completion_tokens"], cached)


def _delta(choice: Json) -> EngineDelta:
    """The choice of a streamed chunk, of a chat (`delta`) or a completion (`text`).

    Raises UpstreamFailed as `_finish_reason`.
    """
    delta = choice if "text" in choice else choice.get("delta") or {}
    text = delta.get("text") or delta.get("content") or ""
    calls, log_probs, reason = delta.get("tool_calls"), choice.get("logprobs"), choice.get("finish_reason")
    return EngineDelta(
        text,
        [_tool_call(index, call) for index, call in enumerate(calls)] if calls else (),
        [_log_prob(entry) for entry in log_probs.get("content") or ()] if log_probs else None,
        _finish_reason(reason) if reason else None,
    )


def _tool_call(index: int, call: Json) -> ToolCallDelta:
    function = call["function"]
    return ToolCallDelta(call.get("index", index), call.get("id"), function.get("name"), function.get("arguments"))


def _log_prob(entry: Json) -> TokenLogProb:
    """An entry of the engine with its alternatives; log-probabilities in nats, none below MIN_LOG_PROB."""
    return TokenLogProb(
        entry.get("token", ""),
        entry.get("bytes", ()),
        _clamped(entry["logprob"]),
        [TokenLogProb(one["token"], one["bytes"], _clamped(one["logprob"])) for one in entry["top_logprobs"]],
    )


def _clamped(log_prob: float | None) -> float:
    """A log-probability in nats; None (the engine has no number) and what is lower become MIN_LOG_PROB."""
    return MIN_LOG_PROB if log_prob is None else max(log_prob, MIN_LOG_PROB)


def _finish_reason(reason: str) -> FinishReason:
    """The engine's word as ours. Raises UpstreamFailed for one that is unknown."""
    try:
        return FinishReason(reason)
    except ValueError:
        raise UpstreamFailed("engine_failed", "The engine ended its answer for an unknown reason.") from None


def disconnected(error: httpx2.TransportError | None) -> Unavailable:
    """The error for a broken connection: engine_stalled for a read timeout, else engine_gone.

    `error` is None where an answer's stream ended without its last line.
    """
    if isinstance(error, httpx2.ReadTimeout):
        return _stalled()
    return Unavailable(
        "engine_gone",
        "The engine that serves this model ended in the middle of the call. Ask again: it starts anew.",
        retry_after_s=_RESTART_S,
    )


def _stalled() -> Unavailable:
    """The error for an engine that sends nothing: the caller may ask again, for a stuck one is started anew."""
    return Unavailable(
        "engine_stalled",
        "The engine that serves this model stopped answering in the middle of the call. Ask again: one that is stuck "
        "is started anew.",
        retry_after_s=_RESTART_S,
    )


def _error_of(status: int, content: bytes) -> LuthierError:
    """An engine's error response as an error of ours, which the caller raises.

    InvalidRequest for a status below 500 and for a prompt that is too long, else UpstreamFailed.
    """
    try:
        error = json.loads(content)
        error = error.get("error", error)
        kind, text = str(error.get("type")), str(error.get("message"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return UpstreamFailed("engine_failed", f"The engine answered with status {status} and no reason.")
    if kind == "exceed_context_size_error":
        return InvalidRequest("context_length_exceeded", f"The prompt is too long for this model: {text}", "messages")
    if status < 500:
        return InvalidRequest("engine_refused", f"The engine refused the request: {text}")
    return UpstreamFailed("engine_failed", f"The engine failed: {text}")
