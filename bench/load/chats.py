"""Chats: more streams than there are slots, and callers who hang up."""

import asyncio
import json
import time
from collections import Counter

from bench.load import target, wire
from bench.load.figures import Figures
from bench.load.target import BASE, Service

LONG_TOKENS = 1500
NEVER_ENDS = {"0": -100, "2": -100}
"""The embedded model's ends of text and of turn, forbidden: such an answer is as long as it may be."""
QUICK = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
LONG_PROMPT_NUMBERS = 680
LONG_ANSWER_TOKENS = 600
OTHER_TOKENS = 200
SLOW_S = 20.0
"""So long slow readers are left to read."""
PATIENCE_S = 60.0
"""What takes longer is told as so long."""


async def streams(service: Service, n: int) -> Figures:
    """All at once; each answer is the trained one, letter for letter, or a 429 that says when to come back."""
    known = target.trained()
    began = time.perf_counter()
    asked = [_stream(service, *known[number % len(known)]) for number in range(n)]
    outcomes = await asyncio.gather(*asked)
    seconds = time.perf_counter() - began
    return Figures(
        Counter(outcome for outcome, _ in outcomes),
        {"last answer after s": max(s for _, s in outcomes)} | {"all over after s": seconds},
    )


async def _stream(service: Service, messages: list[dict[str, str]], trained: str) -> tuple[str, float]:
    body = {"messages": messages, "temperature": 0, "max_tokens": 60, "stream": True}
    began = time.perf_counter()
    answer = await wire.ask(service.port, "POST", target.chat_path(), service.key, body)
    return outcome_of(answer, trained), time.perf_counter() - began


def outcome_of(answer: wire.Answer, trained: str) -> str:
    if answer.status == 429:
        return "429" if "retry-after" in answer.headers else "429 without retry-after"
    if answer.status != 200:
        return f"{answer.status} {answer.code}"
    pieces = wire.events_of(answer.body)
    if any("error" in piece for piece in pieces):
        return "error in the stream"
    text = "".join(piece["choices"][0]["delta"].get("content") or "" for piece in pieces if piece["choices"])
    return "right" if text == trained else "wrong answer"


async def hang_ups(service: Service, n: int) -> Figures:
    """Unstreamed callers with long answers leave together; then one asks for a token, and waits for whom?"""
    alone_s = await _quick(service)
    body = json.dumps(
        {"messages": [{"role": "user", "content": "Count."}], "max_tokens": LONG_TOKENS, "logit_bias": NEVER_ENDS}
    ).encode()
    request = wire.head("POST", target.chat_path(), service.key, len(body)) + body
    connections = [await wire.connect(service.port) for _ in range(n)]
    for _, writer in connections:
        writer.write(request)
    await asyncio.sleep(2.0)
    for _, writer in connections:
        writer.transport.abort()
    seconds = await _quick(service)
    return Figures(Counter(), {"one token alone, s": alone_s, "one token after they hung up, s": seconds})


async def slow_readers(service: Service, n: int) -> Figures:
    """Streams of long answers that are read a few bytes at a time, beside a caller who wants one token."""
    alone_s = await _quick(service)
    fields = {"max_tokens": LONG_TOKENS // 3, "stream": True, "logit_bias": NEVER_ENDS}
    body = json.dumps({"messages": [{"role": "user", "content": "Count."}], **fields}).encode()
    request = wire.head("POST", target.chat_path(), service.key, len(body)) + body
    connections = [await wire.connect(service.port) for _ in range(n)]
    for _, writer in connections:
        writer.write(request)
    reading = [asyncio.ensure_future(_read_slowly(reader)) for reader, _ in connections]
    await asyncio.sleep(3.0)
    seconds = await _quick(service)
    await asyncio.sleep(SLOW_S)
    for task, (_, writer) in zip(reading, connections, strict=True):
        task.cancel()
        writer.transport.abort()
    read = sum(task.result() if task.done() and not task.cancelled() else 0 for task in reading)
    after_s = await _quick(service)
    values = {"one token alone, s": alone_s, "one token beside them, s": seconds, "one token after them, s": after_s}
    return Figures(Counter({"answers read to their end": read}), values)


async def _read_slowly(reader: asyncio.StreamReader) -> int:
    """Sixteen bytes five times a second; 1 once the connection has ended."""
    while await reader.read(16):
        await asyncio.sleep(0.2)
    return 1


async def long_streams(service: Service, n: int) -> Figures:
    """One resource's long prompts with long answers, more than the context holds, beside another resource's chat."""
    prompt = " ".join(str(number) for number in range(LONG_PROMPT_NUMBERS))
    body = {"messages": [{"role": "user", "content": prompt}], "max_tokens": LONG_ANSWER_TOKENS, "stream": True}
    body |= {"logit_bias": NEVER_ENDS}
    proven = {"model": BASE, **QUICK}
    await wire.ask(service.port, "POST", "/v1/chat/completions", service.other_key, proven)
    asked = [
        asyncio.ensure_future(wire.ask(service.port, "POST", target.chat_path(), service.key, body)) for _ in range(n)
    ]
    await asyncio.sleep(1.0)
    began = time.perf_counter()
    other = {"model": BASE, **QUICK, "max_tokens": OTHER_TOKENS, "logit_bias": NEVER_ENDS}
    answer = await wire.ask(service.port, "POST", "/v1/chat/completions", service.other_key, other)
    seconds = time.perf_counter() - began
    whole = answer.status == 200 and answer.json()["usage"]["completion_tokens"] == OTHER_TOKENS
    outcomes = Counter(_long_outcome(answer) for answer in await asyncio.gather(*asked))
    outcomes["the other's answer whole" if whole else f"the other's answer {answer.status} {answer.code}"] += 1
    return Figures(outcomes, {"the other's answer after s": seconds})


def _long_outcome(answer: wire.Answer) -> str:
    if answer.status != 200:
        return f"{answer.status} {answer.code}"
    ends = [piece["choices"][0]["finish_reason"] for piece in wire.events_of(answer.body) if piece.get("choices")]
    return "whole" if ends and ends[-1] == "length" else "broken off"


async def _quick(service: Service) -> float:
    began = time.perf_counter()
    while (left_s := PATIENCE_S - (time.perf_counter() - began)) > 0:
        asked = wire.ask(service.port, "POST", target.chat_path(), service.key, QUICK, wire.HOST)
        try:
            answer = await asyncio.wait_for(asked, left_s)
        except TimeoutError:
            break
        if answer.status == 200:
            return time.perf_counter() - began
        await asyncio.sleep(0.05)
    return PATIENCE_S
