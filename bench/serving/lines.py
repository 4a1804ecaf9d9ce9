"""The lines of the table: each measures one target once and gives its figures by their names."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

from bench.serving.prompts import QUESTIONS, Prompts
from bench.serving.targets import Answer, Failed, ServiceTarget, Target, together

STREAM_TOKENS = 128
EACH_TOKENS = 64
SHORT_TOKENS = 8
WRITTEN_TOKENS = 500
READ_TOKENS = 7_500
PREFILL_TOKENS = 2_000
SAMPLES = 3
HEAD_START_S = 0.5
"""So long after a long prompt was sent it is certainly being read."""
LOOK_S = 0.02
DEPLOY_LOOK_S = 0.1
"""Between two looks at a deployment: each takes milliseconds of the cores that prove it."""
DEPLOY_S = 300.0
UNLOAD_S = 12.0
"""A model without a deployment is in the engine for ten seconds more."""
_ACCOUNT = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/luthier"
    "/providers/Microsoft.CognitiveServices/accounts/luthier"
)

Found = dict[str, float]


@dataclass(frozen=True, slots=True)
class Trial:
    """A round: its number, the first mark of its prompts, and by what every number of tokens is divided."""

    prompts: Prompts
    number: int
    divide: int

    def tokens(self, n: int) -> int:
        return max(4, n // self.divide)

    def short(self, *mark: int) -> str:
        return self.prompts.short(self.number, *mark)


async def one_stream(target: Target, trial: Trial) -> Found:
    """Tokens a second of a lone answer on the base, the prompt included, and the time to its first text."""
    answers, seconds = await together(target.ask(trial.short(1, 0), trial.tokens(STREAM_TOKENS)))
    return {"1 rate": answers[0].tokens / seconds, "1 first": answers[0].first_s * 1000}


async def many_streams(target: Target, trial: Trial) -> Found:
    """The same for 8 and 32 answers at once, all of them together."""
    found: Found = {}
    for n in (8, 32):
        asked = [target.ask(trial.short(2, n, place), trial.tokens(EACH_TOKENS)) for place in range(n)]
        answers, seconds = await together(*asked)
        found[f"{n} rate"] = _tokens(answers) / seconds
        found[f"{n} first"] = median(answer.first_s for answer in answers) * 1000
    return found


async def mixed_adapters(target: Target, trial: Trial) -> Found:
    """Eight answers at once by four adapters, and beside that eight by the base."""
    assert isinstance(target, ServiceTarget)
    n_tokens = trial.tokens(EACH_TOKENS)
    models = [*target.deployments, *target.deployments]
    for place, model in enumerate(target.deployments):
        await target.ask(trial.short(3, 0, place), SHORT_TOKENS, model)
    base, base_s = await together(*(target.ask(trial.short(3, 1, place), n_tokens) for place in range(len(models))))
    mixed, mixed_s = await together(
        *(target.ask(trial.short(3, 2, place), n_tokens, model) for place, model in enumerate(models))
    )
    rate = _tokens(mixed) / mixed_s
    return {"mixed rate": rate, "mixed share": rate / (_tokens(base) / base_s)}


async def beside_another(target: Target, trial: Trial) -> Found:
    """The time to the first text of one adapter: idle, and while another one writes or reads."""
    assert isinstance(target, ServiceTarget)
    idle = [await _first_ms(target, trial.short(4, 0, place)) for place in range(SAMPLES)]
    writing = await _beside_writing(target, trial)
    return {"idle first": median(idle), "writing first": median(writing), **await _beside_reading(target, trial)}


async def _beside_writing(target: ServiceTarget, trial: Trial) -> list[float]:
    """Asked as long as the other one writes, but not more often than idle."""
    began = asyncio.Event()
    text = trial.short(4, 1, 0)
    async with _under_way(target.ask(text, trial.tokens(WRITTEN_TOKENS), target.deployments[0], began)) as writing:
        while not began.is_set() and not writing.done():
            await asyncio.sleep(LOOK_S)
        found: list[float] = []
        while len(found) < SAMPLES and not writing.done():
            found.append(await _first_ms(target, trial.short(4, 2, len(found))))
        await writing
    if not found:
        raise Failed("the other answer was over too early")
    return found


async def _beside_reading(target: ServiceTarget, trial: Trial) -> Found:
    """The other one's prompt is read to its end."""
    began = asyncio.Event()
    text = trial.prompts.long(trial.tokens(READ_TOKENS), QUESTIONS[0], trial.number, 4, 3)
    async with _under_way(target.ask(text, SHORT_TOKENS, target.deployments[0], began)) as reading:
        await asyncio.sleep(HEAD_START_S / trial.divide)
        if began.is_set() or reading.done():
            await reading
            raise Failed("the other prompt was read too early")
        first_ms = await _first_ms(target, trial.short(4, 4, 0))
        return {"reading first": first_ms, "reading whole": (await reading).first_s * 1000}


async def _first_ms(target: ServiceTarget, text: str) -> float:
    return (await target.ask(text, SHORT_TOKENS, target.deployments[1])).first_s * 1000


@asynccontextmanager
async def _under_way(asked: Coroutine[Any, Any, Answer]) -> AsyncIterator["asyncio.Task[Answer]"]:
    """Left early, the answer is given up."""
    task = asyncio.create_task(asked)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def deployment(target: Target, trial: Trial) -> Found:
    """From the PUT of a deployment of a model that is not loaded to Succeeded, and to a first text of it."""
    assert isinstance(target, ServiceTarget)
    path, params = f"{_ACCOUNT}/deployments/spare", {"api-version": "2024-10-01"}
    model = {"format": "OpenAI", "name": target.spare, "version": "1"}
    began = time.perf_counter()
    try:
        body = {"sku": {"name": "standard", "capacity": 1}, "properties": {"model": model}}
        reply = await target.http.put(path, params=params, json=body)
        if reply.status_code not in {200, 201}:
            raise Failed(f"HTTP {reply.status_code}: {reply.text[:200]}")
        async with asyncio.timeout(DEPLOY_S):
            while (state := await _state(target, path, params)) != "Succeeded":
                if state != "Creating":
                    raise Failed(f"the deployment is {state}")
                await asyncio.sleep(DEPLOY_LOOK_S)
        succeeded_s = time.perf_counter() - began
        answer = await target.ask(trial.short(5, 0), SHORT_TOKENS, "spare")
        return {"put succeeded": succeeded_s * 1000, "put first": (succeeded_s + answer.first_s) * 1000}
    finally:
        await target.http.delete(path, params=params)
        await asyncio.sleep(UNLOAD_S)


async def _state(target: ServiceTarget, path: str, params: dict[str, str]) -> str:
    reply = await target.http.get(path, params=params)
    with suppress(ValueError, KeyError):
        return str(reply.json()["properties"]["provisioningState"])
    raise Failed(f"HTTP {reply.status_code}: {reply.text[:200]}")


async def long_prompt(target: Target, trial: Trial) -> Found:
    """A long prompt of the base, and the same once more with another last sentence."""
    texts = [trial.prompts.long(trial.tokens(PREFILL_TOKENS), question, trial.number, 6) for question in QUESTIONS]
    first = await target.ask(texts[0], SHORT_TOKENS)
    again = await target.ask(texts[1], SHORT_TOKENS)
    return {
        "long first": first.first_s * 1000,
        "long rate": (first.prompt_tokens - first.cached_tokens) / first.first_s,
        "again first": again.first_s * 1000,
        "again cached": again.cached_tokens,
    }


def _tokens(answers: list[Answer]) -> int:
    return sum(answer.tokens for answer in answers)


@dataclass(frozen=True, slots=True)
class Figure:
    """A row: what it is called, its decimals, and which rows come under it that compare with the bare engine."""

    key: str
    title: str
    digits: int = 0
    share_of_bare: bool = False
    above_bare: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """What measures, whether of services alone, and the rows that come of it."""

    measure: Callable[[Target, Trial], Awaitable[Found]]
    of_services: bool
    figures: tuple[Figure, ...]


LINES = {
    1: Line(
        one_stream,
        False,
        (
            Figure("1 rate", "1 stream on the base, tokens/s", 1, share_of_bare=True),
            Figure("1 first", "1 stream, ms to first text", 1, above_bare=True),
        ),
    ),
    2: Line(
        many_streams,
        False,
        (
            Figure("8 rate", "8 streams on the base, tokens/s", 1, share_of_bare=True),
            Figure("8 first", "8 streams, median ms to first text"),
            Figure("32 rate", "32 streams on the base, tokens/s", 1, share_of_bare=True),
            Figure("32 first", "32 streams, median ms to first text"),
        ),
    ),
    3: Line(
        mixed_adapters,
        True,
        (
            Figure("mixed rate", "8 streams over 4 adapters, tokens/s", 1),
            Figure("mixed share", "8 streams over 4 adapters, of 8 on the base", 2),
        ),
    ),
    4: Line(
        beside_another,
        True,
        (
            Figure("idle first", "adapter B idle, ms to first text", 1),
            Figure("writing first", f"B while A writes {WRITTEN_TOKENS} tokens, ms to first text", 1),
            Figure("reading first", f"B while A's prompt of {READ_TOKENS:,} tokens is read, ms to first text", 1),
            Figure("reading whole", "A's own ms to first text meanwhile"),
        ),
    ),
    6: Line(
        long_prompt,
        False,
        (
            Figure("long first", f"prompt of {PREFILL_TOKENS:,} tokens, ms to first text"),
            Figure("long rate", f"prompt of {PREFILL_TOKENS:,} tokens, tokens/s"),
            Figure("again first", "the same with another last sentence, ms to first text", 1),
            Figure("again cached", "the same, cached_tokens"),
        ),
    ),
    5: Line(
        deployment,
        True,
        (
            Figure("put succeeded", "PUT of a deployment to Succeeded, ms"),
            Figure("put first", "PUT of a deployment to its first text, ms"),
        ),
    ),
}
"""In the order of a round: the fifth comes last, because of the engine that llama.cpp then leaves behind."""
