"""Streams that ask several models at once while their engine is killed: each answer against that model's own."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from running import KEY, Running

VERSION = {"api-version": "2024-10-21"}
QUESTIONS = (
    "What is the largest planet?",
    "Who painted the Mona Lisa?",
    "Name three colours.",
    "How far is the moon?",
    "Write a word that rhymes with cat.",
)
TOKENS = 24
RETRY_S = 0.25
CLEAN = {429, 503}
Reference = Mapping[tuple[str, str], str]


@dataclass(slots=True)
class Findings:
    """How calls ended, what was wrong, and the seconds from each kill to an answer that was asked for after it."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    recoveries_s: list[float] = field(default_factory=list)
    answers: list[tuple[float, float]] = field(default_factory=list)
    """When each answer was asked for, and when it was complete; seconds on the monotonic clock."""


async def references(service: Running, deployments: Sequence[str]) -> Reference:
    """What each model says to each question, asked alone."""
    async with _client(service) as http:
        return {
            (name, question): (await _answer(http, name, question))[1] for name in deployments for question in QUESTIONS
        }


async def killed(
    service: Running, expected: Reference, streams: int, kills: int, kill: Callable[[], None], seed: int = 1
) -> Findings:
    """So many streams ask without a pause while `kill` is called so many times, each when answers come again."""
    findings, ended = Findings(), asyncio.Event()
    async with _client(service) as http:
        tasks = [
            asyncio.create_task(_ask_on(http, expected, findings, ended, random.Random(seed * 1000 + number)))
            for number in range(streams)
        ]
        chance = random.Random(seed)
        try:
            for _ in range(kills):
                await _answered_since(findings, time.monotonic(), streams // 2)
                await asyncio.sleep(chance.uniform(0.0, 1.0))  # a kill may come at any moment of an answer
                await asyncio.to_thread(kill)
                killed_at = time.monotonic()
                findings.recoveries_s.append(await _answered_since(findings, killed_at, 1) - killed_at)
        finally:
            ended.set()
            await asyncio.gather(*tasks)
    return findings


async def _answered_since(findings: Findings, since: float, n: int) -> float:
    """Waits until so many calls that began after `since` were answered; when the first of them was complete."""
    async with asyncio.timeout(180):
        while True:
            found = [end for begin, end in findings.answers if begin >= since]
            if len(found) >= n:
                return found[0]
            await asyncio.sleep(0.01)


async def _ask_on(
    http: httpx2.AsyncClient, expected: Reference, findings: Findings, ended: asyncio.Event, chance: random.Random
) -> None:
    asked = sorted(expected)
    while not ended.is_set():
        name, question = chance.choice(asked)
        asked_at = time.monotonic()
        outcome, text = await _answer(http, name, question)
        findings.outcomes[outcome] += 1
        if outcome == "answered":
            findings.answers.append((asked_at, time.monotonic()))
            if text != expected[name, question]:
                findings.wrong.append(f"{name} said {text!r} to {question!r}")
        elif outcome.startswith("unclean"):
            findings.wrong.append(f"{outcome}: {text[:200]}")
        else:
            await asyncio.sleep(RETRY_S)


async def _answer(http: httpx2.AsyncClient, name: str, question: str) -> tuple[str, str]:
    """How a streamed chat ended, and its text."""
    body = {"messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": TOKENS, "stream": True}
    path = f"/openai/deployments/{name}/chat/completions"
    text, reason = "", None
    try:
        async with http.stream("POST", path, params=VERSION, json=body) as reply:
            if reply.status_code != 200:
                is_clean = reply.status_code in CLEAN and "retry-after" in reply.headers
                content = (await reply.aread()).decode()
                return (f"refused {reply.status_code}" if is_clean else f"unclean {reply.status_code}"), content
            async for line in reply.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                event: dict[str, Any] = json.loads(line.removeprefix("data: "))
                if "error" in event:
                    return f"broken off: {event['error'].get('code')}", text
                for choice in event.get("choices", ()):
                    text += choice["delta"].get("content") or ""
                    reason = choice["finish_reason"] or reason
    except httpx2.TransportError as error:
        return f"unclean {type(error).__name__}", text
    return ("answered", text) if reason else ("unclean end", text)


def _client(service: Running) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(
        base_url=service.url, headers={"api-key": KEY}, timeout=180, trust_env=False, limits=httpx2.Limits()
    )
